//! The `tls-server-end-point` channel binding of a certificate (RFC 5929): its hash, by the hash function of its
//! signature.

use std::sync::Arc;

use sha2::{Digest, Sha256, Sha384, Sha512};

/// The binding data, or none for a certificate whose signature names no hash (Ed25519).
pub(super) fn of_certificate(der: &[u8]) -> Option<Arc<[u8]>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID, … }, … }
    let (certificate, _) = element(der, 0x30)?;
    let (_, after_tbs) = element(certificate, 0x30)?;
    let (algorithm, _) = element(after_tbs, 0x30)?;
    let (oid, parameters) = element(algorithm, 0x06)?;
    let hash = match oid {
        // RSASSA-PSS names its hash in the parameters: the OID 2.16.840.1.101.3.4.2.N.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => pss_hash(parameters)?,
        // sha1, md5, sha256, sha384 and sha512 WithRSAEncryption.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last] => match last {
            0x04 | 0x05 | 0x0b => Hash::Sha256,
            0x0c => Hash::Sha384,
            0x0d => Hash::Sha512,
            _ => return None,
        },
        // ecdsa-with-SHA1, and ecdsa-with-SHA256, 384 and 512.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => Hash::Sha256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => Hash::Sha384,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => Hash::Sha512,
        _ => return None,
    };
    Some(match hash {
        Hash::Sha256 => Arc::from(Sha256::digest(der).as_slice()),
        Hash::Sha384 => Arc::from(Sha384::digest(der).as_slice()),
        Hash::Sha512 => Arc::from(Sha512::digest(der).as_slice()),
    })
}

enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let prefix = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    let at = parameters.windows(prefix.len()).position(|window| window == prefix)?;
    match parameters.get(at + prefix.len())? {
        0x01 => Some(Hash::Sha256),
        0x02 => Some(Hash::Sha384),
        0x03 => Some(Hash::Sha512),
        _ => None,
    }
}

/// The content of the DER element at the start of `bytes`, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            (digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
        }
    };
    (*first == tag).then(|| rest.split_at_checked(length)).flatten()
}
