//! Plain HTTP requests: [`exchange`] decides, registers and records each one, [`forward`] moves its bytes, and
//! [`changes`] says what a rule changes in them.

pub(crate) mod changes;
pub mod exchange;
pub mod forward;
