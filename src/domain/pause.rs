//! Why nothing is sent, for how long, and what to do about it. A pause concerns every job alike.

use serde::{Deserialize, Serialize};

use super::time::Millis;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub reason: Reason,
    pub since: Millis,
    /// Who paused, and why, in their own words; only of a person's pause.
    #[serde(default)]
    pub by: Option<String>,
    #[serde(default)]
    pub note: Option<String>,
    /// A look at the account found nothing wrong: one job may go and find out.
    #[serde(default)]
    pub opened: bool,
    /// The balance at the first look since, in thousandths; a higher one is a top-up.
    #[serde(default)]
    pub balance: Option<i64>,
}

impl Pause {
    pub fn new(reason: Reason, now: Millis) -> Self {
        Self { reason, since: now, by: None, note: None, opened: false, balance: None }
    }
}

macro_rules! reasons {
    ($($name:ident $word:literal $looks:literal $what:literal $fix:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Reason { $(#[serde(rename = $word)] $name),* }
        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$name),*];
            /// Stable for ever.
            pub fn name(self) -> &'static str { match self { $(Self::$name => $word),* } }
            /// Whether a look at the account may end it.
            pub fn wants_look(self) -> bool { match self { $(Self::$name => $looks),* } }
            pub fn what(self) -> &'static str { match self { $(Self::$name => $what),* } }
            /// What ends it.
            pub fn fix(self) -> &'static str { match self { $(Self::$name => $fix),* } }
        }
    };
}

reasons! {
    Operator "operator" false
        "somebody paused submission"
        "`reelhook upstream resume` lets it go on",
    NoHeygenKey "no_heygen_key" false
        "the server has no HeyGen key"
        "set HEYGEN_API_KEY and start again",
    HeygenKeyRefused "heygen_key_refused" true
        "HeyGen refuses the key: it is wrong or revoked"
        "repair the key at HeyGen, or set another HEYGEN_API_KEY and start again; it is tried every minute with a \
         call that costs nothing, and submission goes on by itself",
    OutOfCredit "out_of_credit" true
        "HeyGen takes no job for lack of credit or quota"
        "add credit at HeyGen; the balance is looked up every minute, and submission goes on by itself",
    JobsFailForCredit "jobs_fail_for_credit" true
        "HeyGen took a job and failed it later for lack of credit"
        "add credit at HeyGen; submission goes on when the balance it tells has risen, and where it tells none, by \
         `reelhook upstream resume`",
    NotHeygen "not_heygen" true
        "what answers at the address of HeyGen is not its API"
        "check --heygen-url and what is between; it is tried every minute, and submission goes on by itself",
    BalanceNotTold "balance_not_told" true
        "--daily-credits or --least-credits is set, and HeyGen tells no balance of this account to keep it by"
        "start without them; --daily-jobs works for every account",
}

impl Reason {
    /// Whether a job that upstream takes proves it over. A person's pause is ended by a person, and
    /// that a job was taken says nothing of whether it is paid for later.
    pub fn ends_by_success(self) -> bool {
        matches!(self, Self::HeygenKeyRefused | Self::OutOfCredit | Self::NotHeygen)
    }
}
