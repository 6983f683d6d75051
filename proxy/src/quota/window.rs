//! The calendar windows of flows, in UTC.

use std::fmt;

const DAY: i64 = 86_400;

/// How long the window of a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the next.
    Month,
}

impl Per {
    /// The window in which a moment lies.
    pub fn window(self, unix_seconds: i64) -> Window {
        let day = unix_seconds.div_euclid(DAY);
        let (start, end) = match self {
            Self::Day => (day, day + 1),
            Self::Month => {
                let (year, month, _) = civil(day);
                let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                (days(year, month, 1), days(next.0, next.1, 1))
            }
        };
        Window { start: start * DAY, end: end * DAY }
    }

    /// The name in `cordon.resource.per`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// One day or month: from its first second to the first of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// Its first second, since the Unix epoch.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
}

impl Window {
    /// Whether a moment lies in it.
    pub const fn contains(self, unix_seconds: i64) -> bool {
        self.start <= unix_seconds && unix_seconds < self.end
    }

    /// When the count starts anew, as RFC 3339 writes it.
    pub fn resets_at(self) -> String {
        Midnight(self.end).to_string()
    }
}

/// A midnight as RFC 3339 writes it.
struct Midnight(i64);

impl fmt::Display for Midnight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        write!(out, "{year:04}-{month:02}-{day:02}T00:00:00Z")
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years begin in March here, so that a leap day is a year's last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970-01-01: year, month, day.
const fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + (month <= 2) as i64, month, date)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2024-02-29T23:59:59Z.
    const LEAP: i64 = 1_709_251_199;

    #[test]
    fn a_day_and_a_month_begin_and_end_at_midnight_utc() {
        assert_eq!(Per::Day.window(LEAP).resets_at(), "2024-03-01T00:00:00Z");
        assert_eq!(Per::Day.window(LEAP), Window { start: LEAP + 1 - DAY, end: LEAP + 1 });
        assert_eq!(Per::Month.window(LEAP), Window { start: LEAP + 1 - 29 * DAY, end: LEAP + 1 });
        assert_eq!(Per::Month.window(LEAP + 1).resets_at(), "2024-04-01T00:00:00Z");
        assert_eq!(Per::Month.window(1_735_689_599).resets_at(), "2025-01-01T00:00:00Z");
        assert_eq!(Per::Day.window(0), Window { start: 0, end: DAY });
        assert_eq!(Per::Month.window(-1), Window { start: -31 * DAY, end: 0 });
    }

    proptest! {
        #[test]
        fn dates_are_their_own_inverse(day in -800_000_i64..3_000_000) {
            let (year, month, date) = civil(day);
            prop_assert_eq!(days(year, month, date), day);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&date));
        }

        #[test]
        fn every_moment_lies_in_its_window_and_windows_touch(at in -70_000_000_000_i64..200_000_000_000, month: bool) {
            let per = if month { Per::Month } else { Per::Day };
            let window = per.window(at);
            prop_assert!(window.contains(at));
            prop_assert_eq!(per.window(window.end).start, window.end);
            prop_assert_eq!(per.window(window.start - 1).end, window.start);
        }
    }
}
