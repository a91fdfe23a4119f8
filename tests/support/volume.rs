//! A mounted ConfigMap or Secret.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::write;

/// A volume as the kubelet writes it: files are links through `..data` to the directory of the current update. An update
/// makes a new directory, swaps `..data` and removes the old directory.
#[derive(Debug)]
pub struct Volume {
    root: PathBuf,
    update: u32,
}

impl Volume {
    /// A new volume with these files.
    pub fn new(root: PathBuf, files: &[(&str, &str)]) -> Self {
        fs::create_dir(&root).expect("made");
        let mut volume = Volume { root, update: 0 };
        volume.update(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), volume.root.join(name)).expect("linked");
        }
        volume
    }

    /// Replaces all files, in one step.
    pub fn update(&mut self, files: &[(&str, &str)]) {
        let old = fs::read_link(self.root.join("..data")).ok();
        self.update += 1;
        let new = PathBuf::from(format!("..2026_01_31_23_59_59.{:09}", self.update));
        fs::create_dir(self.root.join(&new)).expect("made");
        for (name, text) in files {
            write(&self.root.join(&new).join(name), text);
        }
        symlink(&new, self.root.join("..data_tmp")).expect("linked");
        fs::rename(self.root.join("..data_tmp"), self.root.join("..data")).expect("renamed");
        if let Some(old) = old {
            fs::remove_dir_all(self.root.join(old)).expect("removed");
        }
    }
}
