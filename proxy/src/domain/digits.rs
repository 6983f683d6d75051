//! Numbers and bytes as text, appended to what is being written: an audit record has a dozen of them, and a text
//! of its own for each would cost more than the rest of it.

/// In decimal, with a sign if it is negative.
pub(crate) fn decimal(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// In decimal, with so many digits: zeros in front, and what is more is left out.
pub(crate) fn padded<const DIGITS: usize>(out: &mut Vec<u8>, number: u64) {
    let (mut digits, mut rest) = ([b'0'; DIGITS], number);
    for each in digits.iter_mut().rev() {
        *each = digit(rest % 10);
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

/// In hex, in lower case.
pub(crate) fn hex(bytes: [u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    // It fails for another length alone.
    let _ = hex::encode_to_slice(bytes, &mut text);
    text
}

/// The same, as a text of its own.
pub(crate) fn hex_text(bytes: [u8; 32]) -> String {
    String::from_utf8(hex(bytes).to_vec()).unwrap_or_default()
}

/// Of a number below ten.
#[allow(clippy::cast_possible_truncation, reason = "it is below ten")]
const fn digit(number: u64) -> u8 {
    b'0' + number as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("digits")
    }

    proptest! {
        #[test]
        fn numbers_read_as_the_library_writes_them(number in any::<u64>(), small in 0..2000_u64, bytes in any::<[u8; 32]>()) {
            for number in [number, small, u64::MAX, 0] {
                prop_assert_eq!(told(|out| decimal(out, number)), number.to_string());
                prop_assert_eq!(told(|out| decimal(out, number.cast_signed())), number.cast_signed().to_string());
                prop_assert_eq!(told(|out| padded::<6>(out, number)), format!("{:06}", number % 1_000_000));
            }
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(hex(bytes).to_vec(), expected.into_bytes());
        }
    }
}
