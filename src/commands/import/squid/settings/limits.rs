//! Durations, sizes and counts.

use super::super::lexer::Line;
use super::reader::Reader;
use crate::commands::import::draft::Setting;
use crate::commands::import::notes::NoteKind;

/// A duration, for each of these settings, which take so many seconds at the most. What is lost is told of the first.
pub(super) fn time(reader: &mut Reader<'_>, line: &Line, settings: &[(Setting, u64)]) {
    let total = seconds(line);
    let whole = total.filter(|total| (1.0..1e12).contains(total));
    if total.is_some() && whole.is_none() {
        reader.tell(
            line,
            NoteKind::Lost,
            format!("{} is not carried over: egressd takes no such duration", line.shown()),
        );
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just above")]
    let whole = whole.map(|total| total as u64);
    if let (Some(whole), Some((_, most))) = (whole, settings.first())
        && whole > *most
    {
        let text = format!("{}: the longest that egressd takes here is {}", line.shown(), shown(*most));
        reader.tell(line, NoteKind::Differs, text);
    }
    for (setting, most) in settings {
        reader.set(line, *setting, whole.map(|whole| shown(whole.min(*most))));
    }
}

/// `client_ip_max_connections`.
pub(super) fn connections(reader: &mut Reader<'_>, line: &Line) {
    let most = line.word(0).and_then(|word| word.parse::<u64>().ok()).filter(|most| *most > 0);
    reader.set(line, Setting::TunnelsPerClient, most.map(|most| most.to_string()));
}

/// `request_header_max_size`.
pub(super) fn head_bytes(reader: &mut Reader<'_>, line: &Line) {
    reader.set(line, Setting::HeadBytes, size(line));
}

/// The seconds of `15 minutes`, `1 day`, `30`. None: it is no time.
fn seconds(line: &Line) -> Option<f64> {
    let number: f64 = line.word(0)?.parse().ok()?;
    let unit = line.word(1).unwrap_or("seconds").to_ascii_lowercase();
    let unit = match unit.trim_end_matches('s') {
        "second" => 1.0,
        "minute" => 60.0,
        "hour" => 3_600.0,
        "day" => 86_400.0,
        "week" => 7.0 * 86_400.0,
        "fortnight" => 14.0 * 86_400.0,
        "month" => 30.0 * 86_400.0,
        "year" => 365.0 * 86_400.0,
        "millisecond" => 0.001,
        _ => return None,
    };
    Some((number * unit).round())
}

fn shown(seconds: u64) -> String {
    match seconds {
        whole if whole.is_multiple_of(86_400) => format!("{}d", whole / 86_400),
        whole if whole.is_multiple_of(3_600) => format!("{}h", whole / 3_600),
        whole if whole.is_multiple_of(60) => format!("{}m", whole / 60),
        seconds => format!("{seconds}s"),
    }
}

/// `64 KB`.
fn size(line: &Line) -> Option<String> {
    let number: u64 = line.word(0)?.parse().ok()?;
    let bytes = match line.word(1).unwrap_or("bytes").to_ascii_lowercase().as_str() {
        "kb" => number.checked_mul(1024)?,
        "mb" => number.checked_mul(1024 * 1024)?,
        _ => number,
    };
    Some(match bytes.clamp(1024, 1 << 20) {
        whole if whole.is_multiple_of(1024) => format!("{}KiB", whole / 1024),
        bytes => format!("{bytes}B"),
    })
}
