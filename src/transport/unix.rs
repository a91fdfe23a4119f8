//! Sockets in the file system: bound where a stale one may lie, and taken away at the end.
//!
//! A connection becomes the stream type that everything here takes: reading, writing, splicing and shutting down are the same calls on
//! Linux, and the options of TCP fail, which nothing minds. What asks for addresses asks [`is_gone`](super::socket::is_gone) instead.
//!
//! Only a stale socket is replaced: one that nobody listens on. And only our own is removed: a path may have been replaced under us.
//! Not here: who may connect, which the permissions of the file and of its directory say.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UnixListener};

use super::socket::BACKLOG;

/// The longest path that the kernel takes, in bytes.
pub const LONGEST_PATH: usize = 107;

/// Why a socket was not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("another process listens there: stop it, or write another path")]
    InUse,
    /// There is something else.
    #[error("there is a file that is no socket, which is not replaced: remove it, or write another path")]
    NotASocket,
    /// A socket of somebody else, of which we cannot tell whether it is stale.
    #[error(
        "egressd's user may not write to the socket there, and so cannot tell whether a process listens: remove it if none does, or \
         write another path"
    )]
    Closed,
    /// The kernel said so.
    #[error("{source}{}", instead(source))]
    Io {
        /// Its error.
        #[from]
        source: io::Error,
    },
}

/// What to do about it.
fn instead(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": make its directory first, as RuntimeDirectory= of systemd does",
        io::ErrorKind::PermissionDenied => ": let egressd's user write to its directory",
        io::ErrorKind::ReadOnlyFilesystem => ": mount a volume there that can be written",
        _ => "",
    }
}

/// A socket that listens, and its path.
#[derive(Debug)]
pub struct UnixDoor {
    listener: UnixListener,
    /// Removed when this is dropped.
    path: OwnPath,
}

impl UnixDoor {
    /// Listens at `path`, for all whom `permissions` let write there. There is no moment at which anybody else could connect.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path, permissions: u32) -> Result<Self, BindError> {
        make_room(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        // The file is made with the mode that the socket has.
        rustix::fs::fchmod(&socket, Mode::empty()).map_err(io::Error::from)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let path = OwnPath::made(path)?;
        socket.listen(BACKLOG)?;
        permit(&path.path, path.identity, permissions)?;
        let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
        Ok(UnixDoor { listener: UnixListener::from_std(listener)?, path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path.path
    }

    /// The next connection, and the user at its other end.
    ///
    /// # Errors
    /// What accept(2) says. Dropping the future loses no connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, u32)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((TcpStream::from_std(StdTcpStream::from(OwnedFd::from(stream.into_std()?)))?, user))
    }
}

/// Whether two looks saw the same file.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// A path at which our socket is. A drop removes it, if it is still ours.
#[derive(Debug)]
struct OwnPath {
    path: PathBuf,
    identity: Identity,
}

impl OwnPath {
    fn made(path: &Path) -> io::Result<Self> {
        Ok(OwnPath { path: path.to_owned(), identity: identity(&fs::symlink_metadata(path)?) })
    }
}

/// Sets the permissions of this very file, whatever has come to its path since.
fn permit(path: &Path, file: Identity, permissions: u32) -> io::Result<()> {
    let there =
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let seen = rustix::fs::fstat(&there)?;
    if (seen.st_dev, seen.st_ino) != file {
        return Err(io::Error::other("another file came to its path just now"));
    }
    // A descriptor of this kind has no other way to the mode of its file.
    let link = format!("/proc/self/fd/{}", there.as_raw_fd());
    fs::set_permissions(link, Permissions::from_mode(permissions))
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        let is_ours = |metadata: Metadata| identity(&metadata) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // If that fails, the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a stale socket.
fn make_room(path: &Path) -> Result<(), BindError> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !there.file_type().is_socket() {
        return Err(BindError::NotASocket);
    }
    if listens(path, &there)? {
        return Err(BindError::InUse);
    }
    // Another process may have come between: what is taken away must be what was looked at.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".stale-{}", std::process::id()));
    fs::rename(path, &aside)?;
    let is_it = |metadata: Metadata| identity(&metadata) == identity(&there);
    if fs::symlink_metadata(&aside).is_ok_and(is_it) {
        fs::remove_file(&aside)?;
        return Ok(());
    }
    // Back, unless something else came there meanwhile.
    let _ = rustix::fs::renameat_with(CWD, Path::new(&aside), CWD, path, RenameFlags::NOREPLACE);
    Err(BindError::InUse)
}

/// Whether a process listens at `path`, where `there` was seen.
fn listens(path: &Path, there: &Metadata) -> Result<bool, BindError> {
    let connect = || {
        // Not blocking: somebody may listen whose queue is full.
        let asking = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        asking.connect(&SockAddr::unix(path)?)
    };
    let mut asked = connect();
    let is_closed = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if asked.as_ref().is_err_and(is_closed) {
        // Its permissions leave out even the user whom it belongs to: ourselves, if an egressd was killed.
        let mode = there.permissions().mode() & 0o7777;
        permit(path, identity(there), mode | 0o200).map_err(|_| BindError::Closed)?;
        asked = connect();
        // Somebody may listen there.
        permit(path, identity(there), mode)?;
    }
    match asked {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if is_closed(&error) => Err(BindError::Closed),
        // Somebody listens, or has a full queue.
        Ok(()) | Err(_) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("proxy.sock");
        (directory, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn it_has_its_permissions_and_is_gone_at_the_end() {
        let (_directory, path) = place();
        for permissions in [0o600, 0o660, 0o666] {
            let door = UnixDoor::bind(&path, permissions).expect("there is room");
            assert_eq!((mode(&path), door.path()), (permissions, &*path));
            let client = StdUnixStream::connect(&path).expect("it listens");
            let (accepted, user) = door.accept().await.expect("a connection");
            assert_eq!(user, rustix::process::getuid().as_raw());
            assert!(!super::super::socket::is_gone(&accepted));
            drop((client, accepted, door));
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nothing_else_is() {
        let (_directory, path) = place();
        drop(StdUnixListener::bind(&path).expect("there is room"));
        assert!(path.exists(), "as a kill leaves it");
        drop(UnixDoor::bind(&path, 0o600).expect("nobody listens"));

        let other = StdUnixListener::bind(&path).expect("there is room");
        assert!(matches!(UnixDoor::bind(&path, 0o600), Err(BindError::InUse)));
        assert!(StdUnixStream::connect(&path).is_ok(), "the other one never notices");
        drop(other);

        for make in [|path: &Path| fs::write(path, "mine"), |path: &Path| fs::create_dir(path)] {
            let _ = fs::remove_file(&path);
            make(&path).expect("there is room");
            assert!(matches!(UnixDoor::bind(&path, 0o600), Err(BindError::NotASocket)));
            assert!(path.exists());
        }
        fs::remove_dir(&path).expect("it is there");

        // Not what a link leads to either.
        let target = path.with_extension("target");
        drop(StdUnixListener::bind(&target).expect("there is room"));
        std::os::unix::fs::symlink(&target, &path).expect("there is room");
        assert!(matches!(UnixDoor::bind(&path, 0o600), Err(BindError::NotASocket)));
        assert!(target.exists());
        fs::remove_file(&path).expect("it is there");

        let gone = path.parent().expect("a parent").join("no/such/proxy.sock");
        let error = UnixDoor::bind(&gone, 0o600).expect_err("no directory").to_string();
        assert!(error.contains("make its directory first"), "{error}");
    }

    #[tokio::test]
    async fn t92_a_path_that_was_replaced_is_left_alone() {
        let (_directory, path) = place();
        let door = UnixDoor::bind(&path, 0o600).expect("there is room");
        fs::remove_file(&path).expect("it is there");
        let other = StdUnixListener::bind(&path).expect("there is room");
        drop(door);
        assert!(StdUnixStream::connect(&path).is_ok(), "the socket of another one stays");
        drop(other);
        fs::remove_file(&path).expect("it is there");

        let door = UnixDoor::bind(&path, 0o600).expect("there is room");
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "mine").expect("there is room");
        drop(door);
        assert_eq!(fs::read(&path).expect("it stays"), b"mine");
    }
}
