//! The `200` of a tunnel, to a client that may not read.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::transport::cancel::Cancel;

/// Sends the `200`; returns whether the client got it. The client may have filled its own direction with replies that
/// it does not read.
pub(super) async fn tell(
    client: &mut (impl AsyncWrite + Unpin),
    reply: &[u8],
    timeout: Duration,
    cancel: &Cancel,
) -> bool {
    let telling = async {
        client.write_all(reply).await?;
        client.flush().await
    };
    tokio::select! {
        biased;
        told = tokio::time::timeout(timeout, telling) => matches!(told, Ok(Ok(()))),
        _ = cancel.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::words::outcome::Ending;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_the_200_is_left_in_time_or_when_the_tunnel_is_cancelled() {
        let begun = Instant::now();
        let (mut near, mut far) = duplex(64);
        assert!(tell(&mut near, b"200", TIMEOUT, &Cancel::new()).await);
        let mut told = [0; 3];
        far.read_exact(&mut told).await.expect("it was sent");
        assert_eq!((&told, begun.elapsed()), (b"200", Duration::ZERO));

        let (mut near, _far) = duplex(2);
        assert!(!tell(&mut near, b"200", TIMEOUT, &Cancel::new()).await);
        assert_eq!(begun.elapsed(), TIMEOUT);

        let (mut near, _far) = duplex(2);
        let cancel = Cancel::new();
        cancel.cancel(Ending::PolicyRevoked);
        assert!(!tell(&mut near, b"200", TIMEOUT, &cancel).await);
        assert_eq!(begun.elapsed(), TIMEOUT, "at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_left_is_not_told() {
        let (mut near, far) = duplex(64);
        drop(far);
        assert!(!tell(&mut near, b"200", TIMEOUT, &Cancel::new()).await);
    }
}
