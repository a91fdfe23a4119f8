//! How a target is reached: looked up, checked, dialled, directly or by a parent proxy.

pub mod certificate;
pub mod dial;
pub mod joined;
pub mod origin;
pub mod parent;
mod places;
pub mod resolve;
pub mod route;
