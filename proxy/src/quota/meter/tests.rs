use proptest::prelude::*;

use super::*;
use crate::tenant::SigningKey;

const TAG: &str = "3b965e4a5ef51edef7723ac7826669169c8544a309eee2c1f314a3da8838c621";

fn tag() -> MeterTag {
    MeterTag::new(&SigningKey::new(1, vec![7; 32]), 42)
}

fn read_after_tag(changes: &str) -> Result<Vec<(i32, Change)>, Unread> {
    let read = read(format!("{TAG} {changes}").as_bytes(), &tag())?;
    Ok(read.into_iter().map(|(ResourceId(id), change)| (id, change)).collect())
}

#[test]
fn each_kind_of_change_is_told_from_the_others() {
    assert_eq!(read_after_tag("7:+3"), Ok(vec![(7, Change::Added(3))]));
    assert_eq!(
        read_after_tag("7:-3 2147483647:~9223372036854775807 1:+1"),
        Ok(vec![
            (7, Change::Removed(3)),
            (i32::MAX, Change::Doubtful(9_223_372_036_854_775_807)),
            (1, Change::Added(1))
        ])
    );
}

#[test]
fn a_wrong_tag_is_forged_whatever_follows() {
    let upper = TAG.to_uppercase();
    for tag_of in ["", " ", "x", &TAG[1..], &upper, "0000000000000000000000000000000000000000000000000000000000000000"]
    {
        assert_eq!(read(format!("{tag_of} 7:-3").as_bytes(), &tag()), Err(Unread::Forged), "{tag_of:?}");
    }
    assert_eq!(read(format!(" {TAG} 7:-3").as_bytes(), &tag()), Err(Unread::Forged));
    assert_eq!(read(format!("{TAG}\n7:-3").as_bytes(), &tag()), Err(Unread::Forged));
}

#[test]
fn what_isnt_understood_is_said_so_and_never_half_read() {
    let too_many = vec!["1:+1"; CHANGES_MAX + 1].join(" ");
    for odd in [
        "",
        " ",
        "7",
        "7:",
        "7:+",
        "7:3",
        "7:+0",
        "7:*3",
        "+7:+3",
        "-7:+3",
        "7:++3",
        "7:+-3",
        ":+3",
        "7:+3 ",
        "7:+3  8:+1",
        "7:+3\t8:+1",
        "2147483648:+1",
        "7:+18446744073709551616",
        "7:+3 x",
        "7:é3",
        "7:+٣",
        &too_many,
    ] {
        assert_eq!(read_after_tag(odd), Err(Unread::Malformed), "{odd:?}");
    }
    assert_eq!(read(TAG.as_bytes(), &tag()), Err(Unread::Malformed), "a tag alone");
    assert_eq!(read(format!("{TAG} \u{0}7:+1").as_bytes(), &tag()), Err(Unread::Malformed));
}

fn a_change() -> impl Strategy<Value = (i32, Change)> {
    let change = prop_oneof![
        (1..=u64::MAX).prop_map(Change::Added),
        (1..=u64::MAX).prop_map(Change::Removed),
        (1..=u64::MAX).prop_map(Change::Doubtful),
    ];
    (0..=i32::MAX, change)
}

fn written((id, change): &(i32, Change)) -> String {
    match change {
        Change::Added(rows) => format!("{id}:+{rows}"),
        Change::Removed(rows) => format!("{id}:-{rows}"),
        Change::Doubtful(rows) => format!("{id}:~{rows}"),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(changes in prop::collection::vec(a_change(), 1..=CHANGES_MAX)) {
        let text = changes.iter().map(written).collect::<Vec<_>>().join(" ");
        prop_assert_eq!(read_after_tag(&text), Ok(changes));
    }

    #[test]
    fn no_bytes_without_the_tag_are_believed(detail in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read(&detail, &tag()), Err(Unread::Forged));
    }

    /// Whatever is believed could have been written so, down to the last byte.
    #[test]
    fn what_is_read_is_what_was_written(text in "([0-9]{1,11}[:;]?[-+~ ]{0,2}[0-9]{0,21} ?){0,4}") {
        if let Ok(changes) = read_after_tag(&text) {
            let again = changes.iter().map(written).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(read_after_tag(&again), Ok(changes));
            prop_assert_eq!(text.split(' ').count(), again.split(' ').count());
        }
    }
}
