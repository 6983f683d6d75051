//! Points of time as text, to the microsecond and in UTC: `2026-11-25T05:37:35.000042Z`. What is written is exactly what is read.

use crate::domain::digits::padded;

/// The last microsecond of the year 9999. A clock beyond it is taken for this.
pub const LAST_US: i64 = 253_402_300_799_999_999;
const DAY_US: i64 = 86_400_000_000;

/// As text. A time before 1970 or after 9999 is written as the nearest one in between.
pub fn write(at_us: i64) -> String {
    let mut out = Vec::with_capacity(27);
    append(&mut out, at_us);
    String::from_utf8(out).unwrap_or_default()
}

/// The same, appended.
pub(super) fn append(out: &mut Vec<u8>, at_us: i64) {
    let at_us = at_us.clamp(0, LAST_US);
    let (days, rest) = (at_us / DAY_US, (at_us % DAY_US).unsigned_abs());
    let (year, month, day) = civil(days);
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    padded::<4>(out, year.unsigned_abs());
    out.push(b'-');
    padded::<2>(out, month.unsigned_abs());
    out.push(b'-');
    padded::<2>(out, day.unsigned_abs());
    out.push(b'T');
    padded::<2>(out, seconds / 3600);
    out.push(b':');
    padded::<2>(out, seconds / 60 % 60);
    out.push(b':');
    padded::<2>(out, seconds % 60);
    out.push(b'.');
    padded::<6>(out, micros);
    out.push(b'Z');
}

/// From text of exactly that form.
pub fn read(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, micros) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
    let at_us = days(year, month, day) * DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    // Whatever isn't as it would be written (the 31st of February, a missing Z) is no time.
    (text.len() == 27 && write(at_us) == text).then_some(at_us)
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month, day)
}

/// The inverse.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - (month <= 2) as i64;
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!(write(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(write(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        assert_eq!(write(1_795_585_055_123_456), "2026-11-25T05:37:35.123456Z");
        assert_eq!((write(-1), write(i64::MAX)), (write(0), write(LAST_US)));
        for wrong in ["", "2026-02-31T00:00:00.000000Z", "2026-11-25T05:37:35.123456", "2026-11-25T05:37:35.12345éZ"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(at_us in 0..=LAST_US) {
            prop_assert_eq!(read(&write(at_us)), Some(at_us));
        }
    }
}
