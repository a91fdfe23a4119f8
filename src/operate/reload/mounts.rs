//! Files that are mount points of their own, as Kubernetes makes them for `subPath` and container engines for a single
//! file: such a mount keeps one file, so a new file in its place is never seen.
//!
//! The source is `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Not here: what to do about it; nothing can be done.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The field of a line that holds the mount point, from 0.
const MOUNT_POINT: usize = 4;

/// Those of `files` that are mount points. If /proc cannot be read, none is known.
pub(super) fn mounted<'p>(files: impl Iterator<Item = &'p Path>) -> Vec<PathBuf> {
    let Ok(mountinfo) = std::fs::read(MOUNTINFO) else { return Vec::new() };
    // The kernel knows mounts by the path without symbolic links.
    files
        .filter(|file| std::fs::canonicalize(file).is_ok_and(|file| is_mount_point(&mountinfo, &file)))
        .map(Path::to_owned)
        .collect()
}

fn is_mount_point(mountinfo: &[u8], path: &Path) -> bool {
    let points = mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(MOUNT_POINT));
    let wanted = path.as_os_str().as_bytes();
    points.map(unescaped).any(|point| point.as_bytes() == wanted)
}

/// Undoes the kernel's escapes: it writes blank, tab, newline and backslash as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                name.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                name.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as they stand in a pod: a ConfigMap as a directory, one by `subPath`, and names that need escapes.
    const POD: &[u8] = br"612 498 0:63 / / rw,relatime master:120 - overlay overlay rw,lowerdir=/a:/b
613 612 0:66 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
620 612 259:1 /var/lib/kubelet/pods/1/volumes/kubernetes.io~configmap/c /etc/egressd ro,relatime - ext4 /dev/root rw
621 612 259:1 /var/lib/kubelet/pods/1/volume-subpaths/c/egressd/0 /etc/single/egressd.yaml ro,relatime shared:7 - ext4 /dev/root rw
622 612 259:1 /x /etc/with\040blank\011tab\134backslash ro - ext4 /dev/root rw
623 612 259:1 /x /etc/not\9octal\04 ro - ext4 /dev/root rw
";

    #[test]
    fn exactly_the_path_counts() {
        for (path, want) in [
            ("/etc/single/egressd.yaml", true),
            ("/etc/single", false),
            ("/etc/single/egressd.yaml.bak", false),
            ("/etc/egressd", true),
            ("/etc/egressd/egressd.yaml", false),
            ("/etc/with blank\ttab\\backslash", true),
            ("/etc/with\\040blank\\011tab\\134backslash", false),
            ("/etc/not\\9octal\\04", true),
            ("/x", false),
            ("", false),
        ] {
            assert_eq!(is_mount_point(POD, Path::new(path)), want, "{path}");
        }
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        for text in [&b""[..], b"\n\n", b"1 2 3", b"\xff\xfe \\"] {
            assert!(!is_mount_point(text, Path::new("/etc/egressd.yaml")));
        }
    }

    #[test]
    fn this_machine_s_own_mount_points_are_found() {
        let files = [Path::new("/proc"), Path::new("/proc/self/mountinfo"), Path::new("/nowhere")];
        assert_eq!(mounted(files.into_iter()), [PathBuf::from("/proc")]);
    }
}
