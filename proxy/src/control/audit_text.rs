//! Texts of the audit trail for a database whose encoding can't express all of them: what isn't ASCII becomes `\u{…}`, and a
//! backslash becomes two, so that exactly what was written is read again.

use std::sync::Arc;

use serde_json::Value;

use crate::audit::Row;

/// The record with texts of ASCII only.
pub(super) fn escaped(row: &Row) -> Row {
    each_text(row, &escape)
}

/// The record as it was before [`escaped`].
pub(super) fn unescaped(row: &Row) -> Row {
    each_text(row, &unescape)
}

fn each_text(row: &Row, change: &dyn Fn(&str) -> String) -> Row {
    let text = |text: &Option<Arc<str>>| text.as_ref().map(|text| change(text).into());
    Row {
        key_id: text(&row.key_id),
        relation: text(&row.relation),
        resource: text(&row.resource),
        statement: text(&row.statement),
        sqlstate: text(&row.sqlstate),
        client_user: text(&row.client_user),
        application_name: text(&row.application_name),
        detail: row.detail.as_ref().map(|detail| each_string(detail, change)),
        ..row.clone()
    }
}

fn each_string(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| each_string(item, change)).collect(),
        Value::Object(items) => items.iter().map(|(key, item)| (change(key), each_string(item, change))).collect(),
        other => other.clone(),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for each in text.chars() {
        match each {
            '\\' => out.push_str("\\\\"),
            each if each.is_ascii() => out.push(each),
            each => out.extend(each.escape_unicode()),
        }
    }
    out
}

/// What isn't as [`escape`] writes it stays as it is: it was tampered with, and the hash tells.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\\') {
            out.push('\\');
            rest = after;
        } else if let Some((code, after)) = rest.strip_prefix("u{").and_then(|rest| rest.split_once('}'))
            && let Some(each) = u32::from_str_radix(code, 16).ok().and_then(char::from_u32)
        {
            out.push(each);
            rest = after;
        } else {
            out.push('\\');
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_escaped_is_ascii_and_comes_back(text in "[\\\\u{}a-f0-9é😀]*|.*") {
            prop_assert!(escape(&text).is_ascii());
            prop_assert_eq!(unescape(&escape(&text)), text);
        }
    }
}
