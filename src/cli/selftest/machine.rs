//! The conditions of a figure, as far as the system tells them: processor and file system. Where it
//! does not, they are left out.

use std::path::Path;

/// Cores and, on Linux, their name.
pub fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or(String::new(), |(_, name)| format!(" ({})", name.trim()));
    format!("{cores} cores{name}, {}", std::env::consts::OS)
}

/// The kind of file system a directory is on.
pub fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    of_mount(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &directory)
}

/// The deepest mount that holds the directory; of those in one place, the last hides the others.
fn of_mount(mounts: &str, directory: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        // A blank in a path is written as an octal escape.
        let place = before.split(' ').nth(4)?.replace("\\040", " ");
        let depth = Path::new(&place).components().count();
        directory.starts_with(&place).then(|| (depth, after.split(' ').next().unwrap_or_default().to_owned()))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_the_last_of_equals() {
        let mounts = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
30 22 0:27 / /tmp rw - tmpfs tmpfs rw\n\
31 22 0:28 / /mnt/my\\040disk rw - btrfs /dev/vdb rw\n\
32 22 0:29 / /mnt/my\\040disk rw - xfs /dev/vdc rw\n\
broken\n";
        let of = |path: &str| of_mount(mounts, Path::new(path));
        assert_eq!(of("/var/lib").as_deref(), Some("ext4"));
        assert_eq!(of("/tmp/a").as_deref(), Some("tmpfs"));
        assert_eq!(of("/tmpfile").as_deref(), Some("ext4"), "whole names are compared");
        assert_eq!(of("/mnt/my disk/a").as_deref(), Some("xfs"));
        assert_eq!(of_mount("", Path::new("/")), None);
    }
}
