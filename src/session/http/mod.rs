//! Plain HTTP requests: [`exchange`] decides, registers and records each one, [`forward`] moves its bytes.

pub mod exchange;
pub mod forward;
