//! Small disks that a test fills, or takes writes from. They need the right to mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own, until it is dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// One in memory in the place of a directory, with what is in that. `None`, and a word, where this process may not
    /// mount.
    pub(crate) fn in_memory(directory: &Path) -> Option<Self> {
        Self::over(directory, |place| {
            run("mount", &["-t", "tmpfs", "-o", "size=64m,mode=0700", "postrider-test", place])
        })
    }

    /// The same with a file system in a file, which can [fail](Self::fail).
    pub(crate) fn in_a_file(directory: &Path) -> Option<Self> {
        Self::over(directory, |place| {
            let image = image(Path::new(place));
            let made = fs::File::create(&image).and_then(|file| file.set_len(128 << 20));
            made.is_ok()
                && run("mkfs.ext4", &["-q", "-F", "-E", "root_owner", text(&image)])
                && mount(&image, Path::new(place))
        })
    }

    fn over(directory: &Path, mount: impl FnOnce(&str) -> bool) -> Option<Self> {
        let before = directory.with_extension("before");
        fs::rename(directory, &before).unwrap();
        fs::create_dir(directory).unwrap();
        if !mount(text(directory)) {
            assert!(std::env::var_os("POSTRIDER_REQUIRE_DISKS").is_none(), "a disk cannot be mounted");
            println!("skipped: this process may not mount a disk of its own");
            return None;
        }
        let disk = Self(directory.to_owned());
        assert!(run("cp", &["-a", &format!("{}/.", before.display()), text(directory)]));
        // What a relay finds at its start is not in doubt.
        assert!(run("sync", &["--file-system", text(directory)]));
        Some(disk)
    }

    /// Fills it until so much is left.
    pub(crate) fn fill_up_to(&self, left: usize) {
        let ballast = self.0.join("ballast");
        let _ = fs::remove_file(&ballast);
        // It is full when no more goes in.
        let mut file = fs::File::create(&ballast).unwrap();
        let mut written = 0;
        while let Ok(count @ 1..) = std::io::Write::write(&mut file, &[1; 64 << 10]) {
            written += count;
        }
        file.set_len(written.saturating_sub(left) as u64).unwrap();
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }

    pub(crate) fn remount(&self, how: &str) {
        assert!(run("mount", &["-o", &format!("remount,{how}"), text(&self.0)]));
    }

    /// The file system meets an error and turns read-only, whoever has files open.
    pub(crate) fn fail(&self) {
        // It says that it could not be mounted again, which is what was wanted.
        run("mount", &["-o", "remount,abort", text(&self.0)]);
    }

    /// Checks it and mounts it again, as after a restart of the machine. Nobody may have files on it open.
    pub(crate) fn repair(&self) {
        assert!(run("umount", &[text(&self.0)]));
        let image = image(&self.0);
        // Its exit code says what it has mended.
        run("e2fsck", &["-p", text(&image)]);
        assert!(mount(&image, &self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a relay may still run on it when a test has failed.
        run("umount", &["--lazy", text(&self.0)]);
    }
}

fn image(place: &Path) -> PathBuf {
    place.with_extension("image")
}

fn mount(image: &Path, place: &Path) -> bool {
    run("mount", &["-o", "loop,errors=remount-ro", text(image), text(place)])
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
