//! The service manager that started egressd: what it is told, and the sockets that it passes. systemd and whatever speaks its
//! protocols, such as podman and s6.

pub mod manager;
pub mod passed;
pub mod watchdog;

pub use self::manager::Manager;
pub use self::passed::Passed;
