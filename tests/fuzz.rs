//! The properties of the fuzz targets, tried on their seeds, on the payload corpus and on seeded
//! mutations of both, so that `fuzz/` cannot rot. The search itself is `scripts/fuzz`.

#[path = "fuzz/properties.rs"]
mod properties;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const SEED: u64 = 1;

#[test]
fn signature() {
    run(properties::signature, seeds("signature"), 3_000);
}

#[test]
fn wire() {
    let corpus = include_str!("payloads/webhooks.jsonl").lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of the corpus is JSON");
        line["payload"].to_string().into_bytes()
    });
    run(properties::wire, seeds("wire").into_iter().chain(corpus).collect(), 3_000);
}

#[test]
fn api_body() {
    run(properties::api_body, seeds("api_body"), 400);
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(directory).expect("the seeds").map(|file| file.expect("a seed").path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a seed")).collect()
}

fn run(property: fn(&[u8]), seeds: Vec<Vec<u8>>, mutations: usize) {
    assert!(seeds.len() >= 8, "the seeds are gone");
    let mut dice = StdRng::seed_from_u64(SEED);
    let mutated: Vec<Vec<u8>> = (0..mutations).map(|_| mutate(&seeds, &mut dice)).collect();
    for input in seeds.iter().chain(&mutated) {
        if catch_unwind(AssertUnwindSafe(|| property(input))).is_err() {
            panic!("these bytes break it; keep them in fuzz/seeds: {:?}", String::from_utf8_lossy(input));
        }
    }
}

/// One to four damages to one of the seeds.
fn mutate(seeds: &[Vec<u8>], dice: &mut StdRng) -> Vec<u8> {
    const TOKENS: [&str; 14] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "null",
        "1e9",
        "-0",
        "\\u0000",
        "\u{feff}",
        "\n",
        "\"id\":\"x\",",
    ];
    let mut bytes = seeds.choose(dice).cloned().unwrap_or_default();
    for _ in 0..dice.random_range(1..=4) {
        let at = dice.random_range(0..=bytes.len());
        let end = (at + dice.random_range(0..16)).min(bytes.len());
        match dice.random_range(0..5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, TOKENS.choose(dice).expect("a token").bytes())),
            2 if at < bytes.len() => bytes[at] ^= 1 << dice.random_range(0..8),
            3 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(end..end, again));
            }
            _ => {
                let other = seeds.choose(dice).expect("a seed");
                let from = dice.random_range(0..=other.len());
                let to = (from + dice.random_range(0..40)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    bytes
}
