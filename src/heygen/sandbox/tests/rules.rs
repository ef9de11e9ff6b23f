//! The check before paying and the sandbox, held against each other: every rule of the table from both
//! sides, generated from the table, and every limit once more by hand, as HeyGen documents it.

use serde_json::Map;

use super::*;
use crate::domain::job::Kind;
use crate::heygen::kinds;
use crate::heygen::rules::{self, Rule, Shape};

type Fields = Map<String, Value>;

/// A request, and whether it fits; if not, where it does not.
struct Case {
    request: Fields,
    wrong_at: Option<String>,
}

/// Longer texts and lists stand for "any length".
const LONGEST: usize = 100_000;

/// Values of a shape: some that fit, the first of them the plainest, and some that do not.
fn values(shape: &Shape) -> (Vec<Value>, Vec<Value>) {
    match *shape {
        Shape::Any => (vec![json!(7)], vec![]),
        Shape::Text(least, most) => {
            let text = |n: usize| json!("ä".repeat(n));
            let mut fits = vec![text(least.max(1))];
            let mut wrong = vec![json!(7), json!({})];
            if least == 0 {
                fits.push(text(0));
            } else {
                wrong.extend([text(least - 1), json!(" ".repeat(least)), json!("\u{a0}\n".repeat(least))]);
                fits.push(json!(format!(" {}", "ä".repeat(least))));
            }
            if most < LONGEST {
                fits.push(text(most));
                wrong.push(text(most + 1));
            }
            (fits, wrong)
        }
        Shape::Web => {
            let fits = ["https://x.test/a.mp3", "http://x.test:8080/a?b=c#d", "HTTPS://X.TEST"];
            let wrong = ["", "   ", "nonsense", "ftp://x.test/a", "x.test/a", "/a.mp3", "https://"];
            let wrong = wrong.map(|text| json!(text)).into_iter().chain([json!(5), json!({}), json!([])]);
            (fits.map(|text| json!(text)).into(), wrong.collect())
        }
        Shape::OneOf(words) => {
            let number = |word: &&str| word.parse::<i64>().ok().map(|n| json!(n));
            let fits = words.iter().map(|w| json!(w)).chain(words.iter().filter_map(number));
            (fits.collect(), vec![json!("none of them"), json!(7), json!({})])
        }
        Shape::Number(least, most) => {
            (vec![json!(least), json!(most)], vec![json!(least - 0.01), json!(most + 0.01), json!("1")])
        }
        Shape::Even(least, most) => {
            let wrong = [json!(least - 2), json!(most + 2), json!(least + 1), json!("130")];
            (vec![json!(least), json!(most)], wrong.into())
        }
        Shape::Switch => (vec![json!(true), json!(false)], vec![json!("yes"), json!(1)]),
        Shape::Asset(ways) => {
            let file = |way: &str| match way {
                "base64" => json!({ "type": way, "media_type": "image/png", "data": "iVBORw0KGgo=" }),
                "url" => json!({ "type": way, way: "https://x.test/a" }),
                way => json!({ "type": way, way: "x" }),
            };
            let untyped = ways.iter().map(|way| {
                let mut file = file(way);
                file.as_object_mut().expect("an object").remove("type");
                file
            });
            let fits = ways.iter().map(|way| file(way)).chain(untyped).collect();
            let mut wrong = vec![json!({}), json!("https://x.test/a"), json!({ "type": "url" })];
            wrong.extend(["", "x", "ftp://x.test/a"].map(|url| json!({ "type": "url", "url": url })));
            wrong.extend([json!({ "url": 5 }), json!({ "asset_id": " " }), json!({ "asset_id": {} })]);
            wrong.push(json!({ "type": "banana", "url": "https://x.test/a" }));
            wrong.push(json!({ "type": "asset_id", "url": "https://x.test/a" }));
            if !ways.contains(&"base64") {
                wrong.push(file("base64"));
            }
            (fits, wrong)
        }
        Shape::List(least, most, each) => {
            let (good, bad) = values(each);
            let list = |n: usize| Value::Array(vec![good[0].clone(); n]);
            let mut fits = vec![list(least.max(1)), list(least)];
            let mut wrong: Vec<Value> = bad.into_iter().map(|item| json!([item])).collect();
            wrong.push(json!("text"));
            if least > 0 {
                wrong.push(list(least - 1));
            }
            if most < LONGEST {
                fits.push(list(most));
                wrong.push(list(most + 1));
            }
            (fits, wrong)
        }
        Shape::Media(videos, images) => {
            let of =
                |n: usize, ending: &str| vec![json!({ "url": format!("https://x.test/a.{ending}?b") }); n];
            let sent = |n: usize, media_type: &str| {
                vec![json!({ "type": "base64", "media_type": media_type, "data": "AAAA" }); n]
            };
            let named = |n: usize| vec![json!({ "type": "asset_id", "asset_id": "a" }); n];
            let fits = [
                named(1),
                vec![],
                [of(videos, "mp4"), of(images, "PNG")].concat(),
                [sent(videos, "video/mp4"), sent(images, "image/png")].concat(),
                named(videos + images),
            ];
            let wrong = [
                of(videos + 1, "mp4"),
                of(images + 1, "jpg"),
                sent(videos + 1, "video/webm"),
                [of(1, "webp"), sent(images, "image/png")].concat(),
                named(videos + images + 1),
                vec![json!({})],
            ];
            let lists = |lists: Vec<Vec<Value>>| lists.into_iter().map(Value::Array);
            (lists(fits.into()).collect(), lists(wrong.into()).chain([json!("text")]).collect())
        }
        Shape::Object(rules) => (vec![Value::Object(plainest(rules))], vec![json!("text"), json!([])]),
        Shape::Type(cases) => (vec![json!(cases[0].0)], vec![json!("none of them"), json!(7)]),
    }
}

/// The least that fits.
fn plainest(rules: &[Rule]) -> Fields {
    let mut made = Fields::new();
    for rule in rules {
        match rule {
            Rule::Needs(name, Shape::Type(cases)) => {
                made.insert((*name).to_owned(), json!(cases[0].0));
                made.extend(plainest(cases[0].1));
            }
            Rule::Needs(name, shape) => drop(made.insert((*name).to_owned(), values(shape).0.remove(0))),
            Rule::One(members) => {
                drop(made.insert(members[0].0.to_owned(), values(&members[0].1).0.remove(0)))
            }
            Rule::Also(more) => made.extend(plainest(more)),
            Rule::May(..) | Rule::OneAtMost(_) => {}
        }
    }
    made
}

/// Every rule from both sides. `around` puts the changed object where it belongs.
fn cases(
    rules: &[Rule],
    plain: &Fields,
    place: &str,
    around: &dyn Fn(Fields) -> Fields,
    found: &mut Vec<Case>,
) {
    let mut add = |names: &[(&str, Value)], wrong_at: Option<&str>| {
        let mut fields = plain.clone();
        for (name, value) in names {
            fields.insert((*name).to_owned(), value.clone());
        }
        found
            .push(Case { request: around(fields), wrong_at: wrong_at.map(|name| format!("{place}/{name}")) });
    };
    for rule in rules {
        match rule {
            Rule::Needs(name, shape) | Rule::May(name, shape) => {
                let needed = matches!(rule, Rule::Needs(..));
                add(&[(name, Value::Null)], needed.then_some(name));
                let (fits, wrong) = values(shape);
                fits.into_iter().for_each(|value| add(&[(name, value)], None));
                wrong.into_iter().for_each(|value| add(&[(name, value)], Some(name)));
            }
            Rule::One(members) | Rule::OneAtMost(members) => {
                let none = || members.iter().map(|(name, _)| (*name, Value::Null)).collect::<Vec<_>>();
                add(&none(), matches!(rule, Rule::One(_)).then_some(members[0].0));
                for (n, (name, shape)) in members.iter().enumerate() {
                    let (fits, wrong) = values(shape);
                    let only = |value: Value| {
                        let mut fields = none();
                        fields[n].1 = value;
                        fields
                    };
                    if n > 0 {
                        let two =
                            [(members[0].0, values(&members[0].1).0.remove(0)), (*name, fits[0].clone())];
                        add(&two, Some(members[0].0));
                    }
                    fits.into_iter().for_each(|value| add(&only(value), None));
                    wrong.into_iter().for_each(|value| add(&only(value), Some(name)));
                }
            }
            Rule::Also(_) => {}
        }
    }
    for rule in rules {
        match rule {
            Rule::Also(more) => cases(more, plain, place, around, found),
            Rule::Needs(name, Shape::Object(more)) | Rule::May(name, Shape::Object(more)) => {
                let inside = |fields: Fields| {
                    let mut whole = plain.clone();
                    whole.insert((*name).to_owned(), Value::Object(fields));
                    around(whole)
                };
                cases(more, &plainest(more), &format!("{place}/{name}"), &inside, found);
            }
            Rule::Needs(name, Shape::List(_, _, Shape::Object(more))) => {
                let inside = |fields: Fields| {
                    let mut whole = plain.clone();
                    whole.insert((*name).to_owned(), json!([fields]));
                    around(whole)
                };
                cases(more, &plainest(more), &format!("{place}/{name}/0"), &inside, found);
            }
            Rule::Needs(name, Shape::Type(all)) => {
                for (word, more) in *all {
                    let mut plain = plainest(more);
                    plain.insert((*name).to_owned(), json!(word));
                    cases(more, &plain, place, around, found);
                }
            }
            _ => {}
        }
    }
}

/// What the sandbox says of a request as reelhook would send it: the field it names, if it refuses.
async fn refused(rig: &Rig, kind: Kind, request: &Fields) -> Option<String> {
    let mut request = request.clone();
    if kind == Kind::Template {
        request.insert("template_id".to_owned(), json!("t"));
    }
    if kind == Kind::ProofreadVideo {
        request.insert("proofread_id".to_owned(), json!("p"));
    }
    // A key of its own: the stored answer must not stand for another body.
    let sent = kinds::outgoing(kind, request, "job_1", &rig.sandbox.new_id(), None);
    let (status, answer) = rig.post(&sent.path, Value::Object(sent.body)).await;
    match status {
        200 => None,
        400 => Some(answer["error"]["param"].as_str().expect("a param").to_owned()),
        other => panic!("{other}: {answer}"),
    }
}

async fn open_rig() -> Rig {
    rig_with(|o| (o.concurrency, o.balance) = (usize::MAX, 1e9)).await
}

#[tokio::test]
async fn the_check_and_the_sandbox_refuse_the_same() {
    let rig = open_rig().await;
    for kind in Kind::ALL {
        let rules = rules::of(kind);
        let mut all = vec![];
        cases(rules, &plainest(rules), "", &|fields| fields, &mut all);
        assert!(all.iter().any(|case| case.wrong_at.is_some()), "{kind:?}");
        for Case { mut request, wrong_at } in all {
            // Which is nobody's business.
            request.insert("unknown".to_owned(), json!({"a": 1}));
            let found: Vec<String> = rules::check(kind, &request).into_iter().map(|m| m.pointer).collect();
            let param = refused(&rig, kind, &request).await;
            match &wrong_at {
                None => assert_eq!((&found[..], param), (&[][..], None), "{kind:?} {request:?}"),
                Some(place) => {
                    let named = |at: &String| at == place || at.starts_with(&format!("{place}/"));
                    assert!(found.iter().any(named), "{kind:?} {place}: {found:?} of {request:?}");
                    let first = found[0].trim_start_matches('/').replace('/', ".");
                    assert_eq!(param, Some(first), "{kind:?} {request:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_documented_limit_from_both_sides() {
    let text = |n: usize| json!("ä".repeat(n));
    let files = |n: usize| json!(vec![json!({ "type": "url", "url": "https://x.test/a" }); n]);
    let looks = |n: usize| json!(vec!["look"; n]);
    let dimension = |width: i64| json!({ "width": width, "height": 128 });
    let settings = |name: &str, value: f64| json!({ name: value });
    let avatar = json!({ "type": "avatar", "avatar_id": "a", "script": "x" });
    let heard = json!({ "type": "avatar", "avatar_id": "a", "audio_url": "https://x.test/a.mp3" });
    let stored = json!({ "type": "avatar", "avatar_id": "a", "audio_asset_id": "x" });
    let image = json!({ "type": "image", "image": { "type": "asset_id", "asset_id": "i" }, "script": "x" });
    let film = json!({ "type": "cinematic_avatar", "prompt": "p", "avatar_id": ["a"] });
    let scene = json!({ "type": "avatar_video", "input": { "type": "avatar", "avatar_id": "a" } });
    let spoken = |script: Value| json!([{ "type": "avatar_video", "input": { "image": { "asset_id": "i" }, "script": script } }]);
    let studio = json!({ "type": "studio", "scenes": [scene] });
    let scene_of = |word: &str, field: &str, value: Value| json!([{ "type": word, field: value }]);
    let file = json!({ "asset_id": "f" });
    let clips = |n: usize| json!(vec![json!({ "type": "url", "url": "https://x.test/a.mp4" }); n]);
    let stills = |n: usize| json!(vec![json!({ "type": "url", "url": "https://x.test/a.png" }); n]);
    let of = |kind| kinds::example(kind);
    // docs/heygen.md, Creating: kind, a request that fits, a field of it, what fits, what does not.
    let limits: Vec<(Kind, &Value, &str, Value, Value)> = vec![
        (Kind::Video, &avatar, "script", text(5_000), text(5_001)),
        (Kind::Video, &avatar, "script", text(1), text(0)),
        (Kind::Video, &image, "script", text(5_000), text(5_001)),
        (Kind::Video, &avatar, "aspect_ratio", json!("auto"), json!("2:1")),
        (Kind::Video, &avatar, "resolution", json!("4k"), json!("8k")),
        (Kind::Video, &avatar, "output_format", json!("webm"), json!("avi")),
        (Kind::Video, &avatar, "voice_settings", settings("speed", 0.5), settings("speed", 0.49)),
        (Kind::Video, &avatar, "voice_settings", settings("speed", 1.5), settings("speed", 1.51)),
        (Kind::Video, &avatar, "voice_settings", settings("pitch", -50.0), settings("pitch", -50.1)),
        (Kind::Video, &avatar, "voice_settings", settings("pitch", 50.0), settings("pitch", 50.1)),
        (Kind::Video, &avatar, "voice_settings", settings("volume", 0.0), settings("volume", -0.1)),
        (Kind::Video, &avatar, "voice_settings", settings("volume", 1.0), settings("volume", 1.1)),
        (Kind::Video, &avatar, "engine", json!({ "type": "avatar_v" }), json!({ "type": "avatar_vi" })),
        (Kind::Video, &film, "prompt", text(10_000), text(10_001)),
        (Kind::Video, &film, "avatar_id", looks(3), looks(4)),
        (Kind::Video, &film, "avatar_id", looks(1), looks(0)),
        (Kind::Video, &film, "references", files(12), files(13)),
        (Kind::Video, &film, "duration", json!(4), json!(3.9)),
        (Kind::Video, &film, "duration", json!(15), json!(15.1)),
        (Kind::Video, &film, "resolution", json!("1080p"), json!("4k")),
        (Kind::Video, &film, "references", clips(3), clips(4)),
        (Kind::Video, &film, "references", stills(9), stills(10)),
        (Kind::Video, &studio, "scenes", json!(vec![scene.clone(); 50]), json!(vec![scene.clone(); 51])),
        (Kind::Video, &studio, "scenes", json!([scene]), json!([])),
        (Kind::Video, &studio, "scenes", json!([scene]), json!([{}])),
        (Kind::Video, &studio, "scenes", json!([scene]), json!([{ "type": "banana" }])),
        (Kind::Video, &studio, "scenes", json!([scene]), json!([scene, { "type": "avatar_video" }])),
        (Kind::Video, &studio, "scenes", json!([scene]), json!([{ "type": "avatar_video", "input": {} }])),
        (Kind::Video, &studio, "scenes", spoken(text(5_000)), spoken(text(5_001))),
        (Kind::Video, &studio, "resolution", json!("4k"), json!("8k")),
        (Kind::Video, &avatar, "caption", json!({ "file_format": "srt" }), json!(true)),
        (
            Kind::Video,
            &studio,
            "scenes",
            scene_of("image", "source", file.clone()),
            scene_of("image", "source", json!({ "url": "x" })),
        ),
        (Kind::Video, &studio, "scenes", scene_of("video", "source", file), scene_of("video", "x", json!(1))),
        (Kind::Video, &avatar, "script", json!(" x "), json!("   ")),
        (Kind::Video, &heard, "audio_url", json!("https://x.test/a.mp3"), json!("")),
        (Kind::Video, &heard, "audio_url", json!("http://x.test/a.mp3?s=1"), json!("nonsense")),
        (Kind::Video, &heard, "audio_url", json!("https://x.test"), json!(5)),
        (Kind::Video, &stored, "audio_asset_id", json!("a"), json!("")),
    ];
    let others: Vec<(Kind, &str, Value, Value)> = vec![
        (Kind::VideoAgent, "prompt", text(10_000), text(10_001)),
        (Kind::VideoAgent, "mode", json!("chat"), json!("talk")),
        (Kind::VideoAgent, "files", files(20), files(21)),
        (Kind::Template, "dimension", dimension(128), dimension(126)),
        (Kind::Template, "dimension", dimension(4_096), dimension(4_098)),
        (Kind::Template, "dimension", dimension(130), dimension(129)),
        (Kind::Template, "fps", json!(60), json!(24)),
        (Kind::Translation, "mode", json!("precision"), json!("best")),
        (Kind::Translation, "fps_mode", json!("passthrough"), json!("auto")),
        (Kind::Lipsync, "mode", json!("speed"), json!("fast")),
        (Kind::AiClipping, "output_settings", json!({ "prompt": text(500) }), json!({ "prompt": text(501) })),
        (
            Kind::AiClipping,
            "output_settings",
            json!({ "duration_types": [30, 60, 180, "long"] }),
            json!({ "duration_types": [90] }),
        ),
        (Kind::BackgroundRemoval, "layers", json!(["foreground", "mask", "background"]), json!(["banana"])),
        (Kind::BackgroundRemoval, "layers", json!(["mask"]), json!(["mask", ""])),
        (Kind::VoiceClone, "remove_background_noise", json!(false), json!("no")),
    ];
    let prompted = json!({ "type": "prompt", "name": "n", "prompt": "p" });
    let rig = open_rig().await;
    let check = async |kind: Kind, base: &Value, field: &str, value: &Value, fits: bool| {
        let mut request = base.as_object().expect("an object").clone();
        request.insert(field.to_owned(), value.clone());
        let found = rules::check(kind, &request);
        assert_eq!(found.is_empty(), fits, "{kind:?} {field} {value}: {found:?}");
        assert_eq!(refused(&rig, kind, &request).await.is_none(), fits, "{kind:?} {field} {value}");
        for mistake in found {
            assert!(mistake.pointer.starts_with(&format!("/{field}")), "{mistake:?}");
        }
    };
    for (kind, base, field, fits, wrong) in &limits {
        check(*kind, base, field, fits, true).await;
        check(*kind, base, field, wrong, false).await;
    }
    for (kind, field, fits, wrong) in &others {
        check(*kind, &of(*kind), field, fits, true).await;
        check(*kind, &of(*kind), field, wrong, false).await;
    }
    check(Kind::Avatar, &prompted, "reference_images", &json!(["a", "b", "c"]), true).await;
    check(Kind::Avatar, &prompted, "reference_images", &json!(["a", "b", "c", "d"]), false).await;
}
