//! Receivers that others wrote, in their own languages, told by the real binary: the public libraries of
//! Standard Webhooks, and every example of `examples/`. What they need is installed below the target
//! directory, as it is pinned. Where Node.js or Python is missing a test says that it was skipped; in CI
//! it fails.

mod examples;
mod libraries;
mod process;
mod reelhook;
mod runtime;
