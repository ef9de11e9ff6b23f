//! How long HeyGen usually takes, learned from how long it took lately. Pure figures: who collects
//! the times and where they are kept is not known here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::Kind;
use super::time::{Millis, SECOND};

/// Events that are looked at for completed jobs, the latest: three or four belong to a job.
pub const LOOKED_AT: i64 = 4_000;
/// From so few nothing is learned.
const ENOUGH: usize = 10;
/// Our own clock of a job ticks this coarsely: a poll or a webhook tells of an end, not the end itself.
const COARSE: Millis = 10 * SECOND;

/// From acceptance to the end: half of the jobs take longer than `from_ms`, few longer than `to_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usual {
    pub from_ms: Millis,
    pub to_ms: Millis,
}

impl Usual {
    /// Until a kind has a history of its own: from half to twice what is said of it.
    pub fn of_kind(kind: Kind) -> Self {
        Self { from_ms: kind.usual_time() / 2, to_ms: kind.usual_time() * 2 }
    }

    /// From the median to the ninth decile, and a quarter more: otherwise every tenth job would be
    /// called late. `None` from too few.
    pub fn learned(mut times: Vec<Millis>) -> Option<Self> {
        if times.len() < ENOUGH {
            return None;
        }
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let to_ms = (at(90) + at(90) / 4).max(at(50) + COARSE);
        Some(Self { from_ms: at(50), to_ms })
    }
}

/// What was learned, by the name of the kind.
pub type Learned = BTreeMap<String, Usual>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::MINUTE;

    #[test]
    fn it_learns_from_ten_and_is_not_misled_by_one() {
        assert_eq!(Usual::learned(vec![MINUTE; 9]), None);
        let mut times: Vec<Millis> = (1..=19).map(|n| n * MINUTE).collect();
        times.push(900 * MINUTE);
        times.reverse();
        let learned = Usual::learned(times).unwrap();
        assert_eq!(learned, Usual { from_ms: 10 * MINUTE, to_ms: 18 * MINUTE * 5 / 4 });
        let same = Usual::learned(vec![SECOND; 10]).unwrap();
        assert_eq!(same, Usual { from_ms: SECOND, to_ms: 11 * SECOND }, "never a moment");
    }

    #[test]
    fn without_a_history_there_is_a_range_all_the_same() {
        for kind in Kind::ALL {
            let usual = Usual::of_kind(kind);
            assert!(0 < usual.from_ms && usual.from_ms < usual.to_ms, "{kind:?}");
        }
    }
}
