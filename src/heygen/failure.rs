//! What HeyGen's codes and words mean: the one table behind the class of a failed job, the words for
//! its user, how an answer to a call of ours is sorted, and `docs/errors.md`.
//!
//! Facts are from docs/heygen.md, Errors. What is not in the table is of no known class and
//! keeps upstream's words. Words decide only what people are told and whether to pause, never
//! whether a paid call is repeated.

use crate::domain::failure::{Class, FOR_USER};
use crate::domain::job::Failure;
use crate::domain::pause::Reason;

/// What a code proves as the answer to a call of ours that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proves {
    /// No to this request, for good.
    Refused,
    /// The same, for what the account may do: that may change, and may be looked at before anything else.
    NotAllowed,
    /// This request not now; others may pass.
    NotNow,
    /// Too much is outstanding.
    TooMany,
    /// Nothing passes.
    Blocked(Reason),
    /// Nothing about what became of the request.
    Nothing,
}

impl Proves {
    /// What reelhook does by itself when a submit is answered so.
    fn reelhook_does(self) -> String {
        match self {
            Self::Refused => "fails the job".to_owned(),
            Self::NotAllowed => "fails the job, unless it was sent before and the outcome is open".to_owned(),
            Self::NotNow => "sends the job again later".to_owned(),
            Self::TooMany => "has fewer jobs outstanding, sends again when HeyGen says".to_owned(),
            Self::Blocked(reason) => format!("pauses submission: `{}`", reason.name()),
            Self::Nothing => "asks again with the same Idempotency-Key".to_owned(),
        }
    }
}

struct Row {
    /// In small letters: HeyGen writes them in both cases.
    codes: &'static [&'static str],
    /// Parts of a sentence or, with blanks for `_`, of a code that is not in the table.
    words: &'static [&'static str],
    class: Class,
    proves: Proves,
    for_user: &'static str,
}

const fn row(
    class: Class,
    proves: Proves,
    for_user: &'static str,
    codes: &'static [&'static str],
    words: &'static [&'static str],
) -> Row {
    Row { codes, words, class, proves, for_user }
}

const LATER: &str = "The video cannot be made right now. Please try again later.";
const NOT_ALLOWED: &str = "The video could not be made: something in it may not be used by this account.";

/// The first row with a fitting word wins, so what is told more exactly stands higher.
const TABLE: &[Row] = &[
    row(
        Class::TopUp,
        Proves::Blocked(Reason::OutOfCredit),
        LATER,
        &["insufficient_credit", "movio_payment_insufficient_credit", "quota_exceeded"],
        &["insufficient credit"],
    ),
    row(
        Class::TopUp,
        Proves::Blocked(Reason::OutOfCredit),
        LATER,
        &["trial_limit_exceeded", "400664"],
        &["trial limit exceeded"],
    ),
    // The trial's quota is a day's (docs/heygen.md, Limits).
    row(
        Class::Wait,
        Proves::Blocked(Reason::OutOfCredit),
        LATER,
        &["trial_video_limit_exceeded"],
        &["daily api trial limit"],
    ),
    row(
        Class::TopUp,
        Proves::NotAllowed,
        LATER,
        &["plan_upgrade_required", "400599", "resource_limit_reached", "resource_limit_exceeded"],
        &["upgrade your plan"],
    ),
    row(
        Class::Wait,
        Proves::Blocked(Reason::HeygenKeyRefused),
        LATER,
        &["unauthorized", "authentication_failed", "40009", "400112", "401057", "401056", "400631"],
        &["unauthorized"],
    ),
    row(
        Class::Wait,
        Proves::TooMany,
        LATER,
        &["rate_limit_exceeded", "rate_limited"],
        &["too many requests"],
    ),
    row(Class::Wait, Proves::NotNow, LATER, &["resource_not_ready", "asset_not_available"], &[]),
    row(Class::Wait, Proves::Nothing, LATER, &["request_in_progress"], &[]),
    row(
        Class::Retry,
        Proves::Nothing,
        "Something went wrong while the video was made. Please try again.",
        &["internal_error", "gateway_timeout", "video_delete_failed"],
        &[],
    ),
    row(
        Class::Retry,
        Proves::Refused,
        "Something went wrong while the video was made. Please try again.",
        &["rendering_failed"],
        &["rendering failed"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: its content is not allowed.",
        &[
            "content_policy_violation",
            "400105",
            "400168",
            "400625",
            "400680",
            "401003",
            "402007",
            "402008",
            "402009",
        ],
        &["inappropriate", "content policy", "moderation", "celebrity"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: its text is too long, too short or cannot be spoken.",
        &["script_too_long", "script_too_short", "tts_text_invalid", "40039"],
        &["script too long", "script too short"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: the video or sound is too long or too short.",
        &["40119", "400128", "400150", "400165", "401035", "1000022", "movio_video_is_too_long"],
        &["too long", "too short", "length mismatch"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: the picture must show one face clearly.",
        &["40004", "40005", "40006", "40002"],
        &["no face", "too many faces"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: a file is damaged or of a kind that cannot be used.",
        &["40010", "40044", "400111", "400543", "400621", "400624", "400652"],
        &["corrupted", "no audio stream", "no video stream"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: a file could not be fetched from its address.",
        &["download_failed"],
        &["download failed"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: a file is too large.",
        &["payload_too_large", "hyperframes_project_too_large"],
        &["too large"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: the avatar cannot be used.",
        &[
            "avatar_not_found",
            "avatar_group_not_found",
            "avatar_consent_required",
            "400144",
            "400174",
            "400685",
            "40090",
        ],
        &["avatar not found", "invalid avatar"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: the voice cannot be used.",
        &[
            "voice_not_found",
            "voice_not_usable",
            "voice_unavailable",
            "400116",
            "400548",
            "400551",
            "400552",
            "400634",
        ],
        &["voice not found"],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        "The video could not be made: something it is made from was not found.",
        &[
            "not_found",
            "resource_not_found",
            "video_not_found",
            "template_not_found",
            "asset_not_found",
            "webhook_not_found",
            "hyperframes_render_not_found",
            "40031",
        ],
        &[],
    ),
    row(
        Class::FixInput,
        Proves::Refused,
        FOR_USER,
        &["invalid_parameter", "hyperframes_project_invalid", "40001", "40012", "40065", "400175"],
        &["invalid parameter"],
    ),
    row(Class::FixInput, Proves::NotAllowed, FOR_USER, &["conflict"], &[]),
    row(Class::FixInput, Proves::NotAllowed, NOT_ALLOWED, &["resource_access_denied"], &[]),
    row(
        Class::AskHeygen,
        Proves::NotAllowed,
        NOT_ALLOWED,
        &[
            "forbidden",
            "ai_vendor_access_restricted",
            "unlimited_mode_disabled",
            "ephemeral_upload_disabled",
            "400562",
            "400573",
        ],
        &[],
    ),
    row(Class::AskHeygen, Proves::Refused, FOR_USER, &["400101", "400561", "400014", "10003"], &[]),
];

/// What a code of upstream's proves as an answer to a call; `None` when it is not known.
pub fn proves(code: &str) -> Option<Proves> {
    by_code(code).map(|row| row.proves)
}

/// Upstream's words, with what they mean to people.
pub fn sorted(code: Option<String>, message: impl Into<String>) -> Failure {
    let failure = Failure::new(code, message);
    match row_of(&failure) {
        Some(row) => Failure { class: row.class, for_user: row.for_user.to_owned(), ..failure },
        None => failure,
    }
}

/// Whether every other job would fail so, too, for lack of credit.
pub fn is_lack_of_credit(failure: &Failure) -> bool {
    row_of(failure).is_some_and(|row| row.proves == Proves::Blocked(Reason::OutOfCredit))
}

fn row_of(failure: &Failure) -> Option<&'static Row> {
    let code = failure.code.as_deref().unwrap_or_default();
    by_code(code).or_else(|| by_words(&code.replace('_', " "))).or_else(|| by_words(&failure.message))
}

fn by_code(code: &str) -> Option<&'static Row> {
    let code = code.to_ascii_lowercase();
    TABLE.iter().find(|row| row.codes.contains(&code.as_str()))
}

fn by_words(text: &str) -> Option<&'static Row> {
    let text = text.to_lowercase();
    TABLE.iter().find(|row| row.words.iter().any(|words| text.contains(words)))
}

/// The part of `docs/errors.md` about upstream's failures.
pub fn markdown() -> String {
    let mut page = String::from(
        "\n## What HeyGen's failures mean\n\n\
         `failure` of a failed job has HeyGen's own `code` and `message`, and what reelhook makes of them:\n\
         `class`, `advice` for you, `for_user`, a sentence your user may be shown, and `reelhook_does`. A problem\n\
         document about something HeyGen refused has `code`, `message`, `class` and `advice` in `upstream`. What is in no\n\
         table is `ask_heygen`.\n\n\
         | class | what to do | what reelhook does by itself with a job that failed |\n| --- | --- | --- |\n",
    );
    for class in Class::ALL {
        page.push_str(&format!("| `{}` | {} | {} |\n", class.name(), class.advice(), class.reelhook_does()));
    }
    page.push_str(
        "\nThe last column is for a submit that HeyGen answers so. A code counts in either letter case. Words count\n\
         where the code is missing or not in the table; they are looked for in it and in the message.\n\n\
         | codes | words | class | for the user | reelhook by itself |\n| --- | --- | --- | --- | --- |\n",
    );
    let listed = |all: &[&str], mark: &str| -> String {
        all.iter().map(|one| format!("{mark}{one}{mark}")).collect::<Vec<_>>().join(", ")
    };
    for row in TABLE {
        page.push_str(&format!(
            "| {} | {} | `{}` | {} | {} |\n",
            listed(row.codes, "`"),
            listed(row.words, ""),
            row.class.name(),
            row.for_user,
            row.proves.reelhook_does(),
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_and_each_word_leads_to_its_own_row() {
        for row in TABLE {
            for code in row.codes {
                for code in [(*code).to_owned(), code.to_uppercase()] {
                    let found = sorted(Some(code.clone()), "something else");
                    assert_eq!((found.class, &*found.for_user), (row.class, row.for_user), "{code}");
                    assert_eq!(proves(&code), Some(row.proves), "{code}");
                    assert_eq!((found.code, &*found.message), (Some(code), "something else"));
                }
            }
            for words in row.words {
                let found = sorted(None, format!("Sorry: {}!", words.to_uppercase()));
                assert_eq!((found.class, &*found.for_user), (row.class, row.for_user), "{words}");
            }
        }
    }

    #[test]
    fn no_code_stands_twice_and_all_are_in_small_letters() {
        let all: Vec<&str> = TABLE.iter().flat_map(|row| row.codes.iter().copied()).collect();
        for (nth, code) in all.iter().enumerate() {
            assert!(!all[nth + 1..].contains(code), "{code}");
            assert_eq!(*code, code.to_lowercase());
        }
        let words = TABLE.iter().flat_map(|row| row.words);
        assert!(words.into_iter().all(|words| *words == words.to_lowercase()));
    }

    #[test]
    fn what_is_unknown_keeps_upstreams_words_and_is_of_no_known_class() {
        for (code, message) in [(None, "Reticulated splines"), (Some("SPLINES"), "?"), (Some(""), "")] {
            let found = sorted(code.map(str::to_owned), message);
            assert_eq!(found, Failure::new(code.map(str::to_owned), message));
            assert_eq!(found.class, Class::AskHeygen);
            assert_eq!(proves(code.unwrap_or_default()), None);
        }
    }

    #[test]
    fn a_code_goes_before_words_and_an_unknown_code_is_read_as_words() {
        let class = |code: Option<&str>, message: &str| sorted(code.map(str::to_owned), message).class;
        assert_eq!(class(Some("rendering_failed"), "Insufficient credit"), Class::Retry);
        assert_eq!(class(Some("MOVIO_AUDIO_IS_TOO_LONG"), "x"), Class::FixInput);
        assert_eq!(class(Some("MOVIO_X"), "Insufficient credit. Needs 'api' credits."), Class::TopUp);
        assert_eq!(class(Some("40119"), "Video is too long (> 3600.0s)"), Class::FixInput);
    }

    #[test]
    fn only_lack_of_credit_is_lack_of_credit() {
        let lacks = |code: &str, words: &str| is_lack_of_credit(&sorted(Some(code.to_owned()), words));
        assert!(lacks("MOVIO_PAYMENT_INSUFFICIENT_CREDIT", ""));
        assert!(is_lack_of_credit(&sorted(
            None,
            "Insufficient credit. This operation requires 'api' credits."
        )));
        assert!(!lacks("plan_upgrade_required", ""), "others need no larger plan");
        assert!(!lacks("rendering_failed", "no credit"));
        assert!(!lacks("", ""));
    }

    #[test]
    fn no_mutation_of_a_code_or_a_sentence_panics() {
        let seeds = TABLE.iter().flat_map(|row| row.codes.iter().chain(row.words));
        for seed in seeds {
            let letters: Vec<char> = seed.chars().collect();
            for at in 0..=letters.len() {
                for odd in ['_', '\0', 'İ', 'ß', '🎬', '\u{301}', '9'] {
                    let mut text = letters.clone();
                    text.insert(at, odd);
                    let text: String = text.iter().collect();
                    let cut: String = letters[..at].iter().collect();
                    for code in [Some(text.clone()), Some(cut.clone()), None] {
                        let found = sorted(code.clone(), text.clone());
                        assert_eq!((found.code, found.message), (code, text.clone()));
                    }
                }
            }
        }
        sorted(Some("_".repeat(100_000)), "x".repeat(100_000));
    }
}
