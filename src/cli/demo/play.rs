//! The play: which jobs the demo submits, what befalls each, and how it must end.

use serde_json::{Value, json};

pub struct Role {
    pub name: &'static str,
    pub kind: &'static str,
    /// HeyGen's own body. The `#word` in its text tells the sandbox what to do.
    pub request: Value,
    /// What befalls it, for people.
    pub story: &'static str,
    pub state: &'static str,
    pub found_by: &'static str,
}

/// The name of the job whose end the receiver fails to take the first time.
pub const RECEIVER_FAILS: &str = "app-fails";

pub fn roles() -> Vec<Role> {
    let avatar = |title: &str| json!({"type": "avatar", "avatar_id": "Abigail_standing", "title": title, "script": "Hello from reelhook."});
    vec![
        Role {
            name: "welcome",
            kind: "video",
            request: avatar("Welcome"),
            story: "all goes well",
            state: "completed",
            found_by: "webhook",
        },
        Role {
            name: "answer-lost",
            kind: "video",
            request: avatar("Answer lost #reset_after"),
            story: "its answer gets lost",
            state: "completed",
            found_by: "webhook",
        },
        Role {
            name: "webhook-lost",
            kind: "video",
            request: avatar("Webhook lost #lost"),
            story: "HeyGen never calls back",
            state: "completed",
            found_by: "poll",
        },
        Role {
            name: "doubled",
            kind: "translation",
            request: json!({
                "title": "Doubled #double",
                "video": {"type": "url", "url": "https://example.com/source.mp4"},
                "output_languages": ["Spanish (Spain)"],
            }),
            story: "HeyGen calls back twice",
            state: "completed",
            found_by: "webhook",
        },
        Role {
            name: "forged",
            kind: "video",
            request: avatar("Forged #forged"),
            story: "a stranger says it failed",
            state: "completed",
            found_by: "webhook",
        },
        Role {
            name: RECEIVER_FAILS,
            kind: "video",
            request: avatar("Receiver fails"),
            story: "your application fails to take the news",
            state: "completed",
            found_by: "webhook",
        },
        Role {
            name: "agent",
            kind: "video_agent",
            request: json!({"prompt": "A ten second greeting. #captions"}),
            story: "made of a prompt",
            state: "completed",
            found_by: "webhook",
        },
        Role {
            name: "fails",
            kind: "video",
            request: avatar("Fails #fail"),
            story: "HeyGen fails to render it",
            state: "failed",
            found_by: "poll",
        },
    ]
}
