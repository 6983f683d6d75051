//! The tag by which a meter's report is known for Postgres' own: the lower-case hex HMAC-SHA-256 of `meter|BACKEND PID` under
//! a signing key, the newest but for its first minute. `cordon.report()` makes the same one. Tenants never see it, for the proxy takes reports out of
//! the stream.

use std::fmt;

use subtle::ConstantTimeEq;

use super::seal::SigningKey;

/// What a report of one backend begins with. It holds for as long as the backend lives and the key isn't replaced.
#[derive(Clone)]
pub struct MeterTag {
    hex: Box<str>,
}

impl MeterTag {
    /// The tag of the backend with process id `pid`.
    pub fn new(key: &SigningKey, pid: i32) -> Self {
        // Without a key there is no tag, and none matches.
        Self { hex: key.sign(&format!("meter|{pid}")).unwrap_or_default().into() }
    }

    /// Whether this is the tag. How long that takes tells nothing of it.
    pub fn is(&self, given: &[u8]) -> bool {
        !self.hex.is_empty() && bool::from(self.hex.as_bytes().ct_eq(given))
    }
}

impl fmt::Debug for MeterTag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MeterTag(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_documented_hmac_of_one_backend() {
        // printf 'meter|42' | openssl dgst -sha256 -mac hmac -macopt hexkey:0707…
        let hex = "3b965e4a5ef51edef7723ac7826669169c8544a309eee2c1f314a3da8838c621";
        let tag = MeterTag::new(&SigningKey::new(1, vec![7; 32]), 42);
        assert!(tag.is(hex.as_bytes()));
        for wrong in ["", &hex[1..], &hex.to_uppercase(), &hex.replace('a', "b")] {
            assert!(!tag.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(!MeterTag::new(&SigningKey::new(1, vec![7; 32]), 43).is(hex.as_bytes()));
        assert!(!MeterTag::new(&SigningKey::new(1, vec![8; 32]), 42).is(hex.as_bytes()));
        assert!(!format!("{tag:?}").contains(&hex[..8]));
    }
}
