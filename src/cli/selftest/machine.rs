//! The conditions of a figure, as far as the system tells them. Where it does not, they are left out.

/// Cores and, on Linux, their name.
pub fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or(String::new(), |(_, name)| format!(" ({})", name.trim()));
    format!("{cores} cores{name}, {}", std::env::consts::OS)
}
