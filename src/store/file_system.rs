//! What a directory is on. SQLite's log is memory that its processes share, and a lock or a flush of a
//! network file system is another machine's word, so none of them is taken for a database.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// As Linux names them.
const OF_A_NETWORK: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afs",
    "ceph",
    "lustre",
    "beegfs",
    "gpfs",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.rclone",
];

/// The kind of file system a file or directory is on, where Linux tells it.
pub fn kind(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    of_mount(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
}

/// The path without links, so that one file has one name, one lock and one log beside it; the file is made where
/// there is none. One whose directory is not there keeps its path.
pub(super) fn real(file: &Path) -> Result<PathBuf> {
    let Ok(path) = file.canonicalize().or_else(|_| {
        // Of a new file, or where a link leads that nobody has written to.
        File::options().create(true).truncate(false).write(true).open(file)?;
        file.canonicalize()
    }) else {
        return Ok(file.to_owned());
    };
    // Which has a name for itself and each directory in it, too.
    if path.is_dir() {
        let inside = path.join("reelhook.db");
        return Err(Error::Unfit(format!(
            "{} is a directory; give a file in it, such as {}",
            path.display(),
            inside.display()
        )));
    }
    #[cfg(unix)]
    if std::fs::metadata(&path).is_ok_and(|file| std::os::unix::fs::MetadataExt::nlink(&file) > 1) {
        return Err(Error::Unfit(format!(
            "{} has a second name (a hard link), under which another could open it unseen; copy it, or remove \
             the other name",
            path.display()
        )));
    }
    Ok(path)
}

/// A file on a network file system is no place for a database.
pub(super) fn refuse_network(file: &Path) -> Result<()> {
    match kind(file) {
        Some(kind) => refuse(file, &kind),
        None => Ok(()),
    }
}

fn refuse(file: &Path, kind: &str) -> Result<()> {
    if !OF_A_NETWORK.contains(&kind) {
        return Ok(());
    }
    Err(Error::Unfit(format!(
        "{} is on a network file system ({kind}), where SQLite may lose or break what it wrote; give a \
         --database on a disk of this machine, or a PostgreSQL server",
        file.display()
    )))
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

    #[test]
    fn a_network_file_system_is_refused_and_a_disk_is_not() {
        let file = Path::new("/mnt/share/reelhook.db");
        for kind in OF_A_NETWORK {
            let said = refuse(file, kind).unwrap_err().to_string();
            assert!(said.contains("/mnt/share/reelhook.db") && said.contains(kind), "{said}");
        }
        for kind in ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "9p", "apfs", "fuse.mergerfs", ""] {
            refuse(file, kind).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        refuse_network(&dir.path().join("no/such/place.db")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_known_by_its_one_real_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let made = real(&at("new.db")).unwrap();
        assert!(made.ends_with("new.db") && made.is_file());
        for (link, to) in [("link.db", "new.db"), ("early.db", "later.db")] {
            std::os::unix::fs::symlink(at(to), at(link)).unwrap();
            assert!(real(&at(link)).unwrap().ends_with(to), "{link}");
        }
        assert_eq!(real(&at("no/such/place.db")).unwrap(), at("no/such/place.db"));
        let said = real(dir.path()).unwrap_err().to_string();
        assert!(
            said.contains("is a directory; give a file in it") && !said.contains("second name"),
            "{said}"
        );
        std::fs::hard_link(at("new.db"), at("second.db")).unwrap();
        for name in ["new.db", "second.db", "link.db"] {
            assert!(real(&at(name)).unwrap_err().to_string().contains("second name"), "{name}");
        }
    }
}
