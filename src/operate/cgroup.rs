//! The control groups that this process is in, as far as they can be seen: where the files of a controller are, in both versions
//! (cgroups(7), proc_pid_mountinfo(5)).

use std::fs;
use std::path::{Path, PathBuf};

/// One group, its own or one above it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) path: PathBuf,
    pub(super) is_v2: bool,
}

impl Group {
    /// What a file of it says.
    pub(super) fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path.join(file)).ok()
    }
}

/// Those that `controller` bounds.
pub(super) fn groups(controller: &str) -> Vec<Group> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    groups_in(controller, &read("/proc/self/cgroup"), &read("/proc/self/mountinfo"), Path::new("/"))
}

/// Those in `cgroup` (`/proc/self/cgroup`), which are mounted as `mountinfo` says. `root` is put in front of every path.
pub(super) fn groups_in(controller: &str, cgroup: &str, mountinfo: &str, root: &Path) -> Vec<Group> {
    let mut groups = Vec::new();
    for group in cgroup.lines() {
        let mut parts = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == controller) {
            continue;
        }
        for (mounted, point) in mountinfo.lines().filter_map(|line| mount(line, controller, is_v2)) {
            // A container may see its own group as the root of the mount while the path is that of the host.
            let below = Path::new(path).strip_prefix(&mounted).unwrap_or(Path::new(""));
            for ancestor in below.ancestors() {
                let path = root.join(point.strip_prefix("/").unwrap_or(&point)).join(ancestor);
                groups.push(Group { path, is_v2 });
            }
        }
    }
    groups
}

/// The root of the mount and where it is mounted, if it is one of cgroups with this controller.
fn mount(line: &str, controller: &str, is_v2: bool) -> Option<(PathBuf, PathBuf)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let has_it = filesystem.next() == Some(if is_v2 { "cgroup2" } else { "cgroup" })
        && (is_v2
            || filesystem
                .nth(1)
                .is_some_and(|options| options.split(',').any(|option| option == controller)));
    let mut fields = mount.split(' ').skip(3);
    has_it.then_some((fields.next()?.into(), fields.next()?.into()))
}
