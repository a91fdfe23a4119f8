//! What requests share while the program runs: the configuration in force, what is open, what counts against limits.

pub mod allowed;
pub mod budgets;
mod by_client;
pub mod distrust;
pub mod drain;
pub mod hellos;
pub mod history;
pub mod in_force;
pub mod limits;
pub mod listener;
pub mod live;
pub mod passwords;
pub mod proof;
pub mod recent;
pub mod shared;
