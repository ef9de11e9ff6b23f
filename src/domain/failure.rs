//! What kind of trouble ended a job, and what helps. Which of HeyGen's codes and words is of which
//! class is known to `heygen/failure.rs` alone.

use serde::{Deserialize, Serialize};

/// What a person can do about a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Retry,
    FixInput,
    TopUp,
    Wait,
    /// Also what nobody knows the meaning of.
    #[default]
    AskHeygen,
}

impl Class {
    pub const ALL: [Self; 5] = [Self::Retry, Self::FixInput, Self::TopUp, Self::Wait, Self::AskHeygen];

    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::FixInput => "fix_input",
            Self::TopUp => "top_up",
            Self::Wait => "wait",
            Self::AskHeygen => "ask_heygen",
        }
    }

    /// For whoever runs the application.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Retry => "Try again; `reelhook job retry ID` makes a new job from one that failed.",
            Self::FixInput => "Change the request as `message` says, and send it anew.",
            Self::TopUp => "Add credit at HeyGen, or take a plan that allows it; then retry.",
            Self::Wait => "Wait until its cause is gone, then try again; nothing is wrong with the request.",
            Self::AskHeygen => {
                "Look it up in your HeyGen account; what HeyGen's support will ask for stands here and in the job's `upstream_id`."
            }
        }
    }

    /// What happens to a job that failed so without anybody doing anything.
    pub fn reelhook_does(self) -> &'static str {
        match self {
            Self::Retry => "Nothing more with this job: another try may be charged, so it is left to you.",
            Self::FixInput => "Nothing more with this job: the same request would fail again.",
            Self::TopUp => {
                "Nothing more with this job; where the account lacks credit, no other is sent until it has some."
            }
            Self::Wait => "Nothing more with this job; jobs not yet sent wait by themselves.",
            Self::AskHeygen => "Nothing more with this job; what is known of it is kept.",
        }
    }
}

/// What an end user may be told when nobody knows more.
pub const FOR_USER: &str = "The video could not be made.";
