//! The main job with real parts: git, curl and nginx through the real binary.
