//! The error of a value.

use std::fmt;

use serde::de;

/// Why one value is not what it should be: reported by the nearest [`At`](super::At) around it.
#[derive(Debug)]
pub(super) struct Wrong(pub(super) Option<String>);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("refused"))
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Wrong(Some(text.to_string()))
    }
}
