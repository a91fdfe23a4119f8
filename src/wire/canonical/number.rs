//! Numbers as ECMAScript writes them (RFC 8785 §3.2.2.3): of a double, the fewest digits that say which one it is.

use std::io::Write as _;

/// Digits that every double keeps: a number of no more is written as it stands.
const EXACT: usize = 15;

/// Writes the number at the start of `text`, and returns how many bytes it is long there. None: it is no number of JSON, or
/// beyond every double.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let digits = |from: usize| {
        text.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let minus = usize::from(text.first() == Some(&b'-'));
    let whole = digits(minus);
    if whole == 0 || (whole > 1 && text.get(minus) == Some(&b'0')) {
        return None;
    }
    let mut end = minus + whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        if fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    }
    let mut has_exponent = false;
    if let Some(b'e' | b'E') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent == 0 {
            return None;
        }
        has_exponent = true;
        end += 1 + sign + exponent;
    }
    let written = text.get(..end)?;
    if !has_exponent && whole + fraction <= EXACT && fraction <= 6 {
        short(written, fraction, out);
    } else {
        let value: f64 = std::str::from_utf8(written).ok()?.parse().ok()?;
        double(value, out)?;
    }
    Some(end)
}

/// Without an exponent, with so few digits that they are what a double is written with; but for zeros at the end, and a sign
/// of zero.
fn short(written: &[u8], fraction: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(written);
    if fraction > 0 {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
    if out.get(start..) == Some(b"-0") {
        out.truncate(start);
        out.push(b'0');
    }
}

/// Of two decimals that are equally close, the even one is written (ECMA-262, note 2 of Number::toString); `format!` takes the
/// larger one.
fn to_even(value: f64, digits: &mut [u8]) {
    let count = digits.len();
    let Some(last) = digits.last_mut().filter(|last| **last % 2 == 1) else { return };
    // All digits of a double: at most 767.
    let exact = format!("{value:.800e}");
    let exact: Vec<u8> = exact.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).collect();
    let Some((lower, rest)) = exact.split_at_checked(count) else { return };
    let is_between = rest.first() == Some(&b'5') && rest.iter().skip(1).all(|digit| *digit == b'0');
    if is_between {
        // A 9 has no larger neighbour of as many digits: it would have been written with fewer.
        *last = if lower.last() == Some(last) { *last + 1 } else { *last - 1 };
    }
}

/// ECMA-262, Number::toString with radix 10.
fn double(value: f64, out: &mut Vec<u8>) -> Option<()> {
    if !value.is_finite() {
        return None;
    }
    if value == 0.0 {
        out.push(b'0');
        return Some(());
    }
    if value < 0.0 {
        out.push(b'-');
    }
    // `d.ddde-x`: the fewest digits, and among those the closest.
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e')?;
    let mut digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    to_even(value.abs(), &mut digits);
    // The value is 0.DIGITS × 10^point.
    let point = exponent.parse::<i32>().ok()?.checked_add(1)?;
    let count = i32::try_from(digits.len()).ok()?;
    let zeros = |out: &mut Vec<u8>, count: i32| (0..count).for_each(|_| out.push(b'0'));
    match point {
        1..=21 if count <= point => {
            out.extend_from_slice(&digits);
            zeros(out, point - count);
        }
        1..=21 => {
            let (before, after) = digits.split_at_checked(usize::try_from(point).ok()?)?;
            out.extend_from_slice(before);
            out.push(b'.');
            out.extend_from_slice(after);
        }
        -5..=0 => {
            out.extend_from_slice(b"0.");
            zeros(out, -point);
            out.extend_from_slice(&digits);
        }
        _ => {
            let (first, rest) = digits.split_at_checked(1)?;
            out.extend_from_slice(first);
            if !rest.is_empty() {
                out.push(b'.');
                out.extend_from_slice(rest);
            }
            let sign = if point > 0 { '+' } else { '-' };
            // Writing into a Vec cannot fail.
            let _ = write!(out, "e{sign}{}", (point - 1).abs());
        }
    }
    Some(())
}
