//! Whether what is compared with `….hashes.ALGORITHM` is a digest of that algorithm, which STIX demands (STIX 2.1 §10.6).

use super::{Constant, ObjectPath, Operator, PatternFault, Step};

/// How many hexadecimal digits the digests of an algorithm have; `None` for one that is not in the vocabulary.
fn digits(algorithm: &str) -> Option<usize> {
    Some(match algorithm {
        "MD5" => 32,
        "RIPEMD160" | "SHA1" => 40,
        "SHA224" | "SHA3224" => 56,
        "SHA256" | "SHA3256" => 64,
        "SHA384" | "SHA3384" => 96,
        "SHA512" | "SHA3512" | "WHIRLPOOL" => 128,
        _ => return None,
    })
}

/// Checks a comparison. Other operators than equality and `IN` compare with what is no digest.
pub(super) fn check(path: &ObjectPath, operator: Operator, constants: &[Constant]) -> Result<(), PatternFault> {
    let is_hashes = path.steps.iter().any(|step| matches!(step, Step::Key(key) if key == "hashes"));
    let (true, Some(Step::Key(algorithm))) = (is_hashes && operator != Operator::Exists, path.steps.last()) else {
        return Ok(());
    };
    let name = algorithm.to_uppercase().replace(['-', '\''], "");
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for constant in constants {
        let text = text_of(constant);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let fits = match (name.as_str(), digits(&name)) {
            (_, Some(digits)) => text.len() == digits && is_hex(text),
            ("MD6", _) => text.get(..32).is_some_and(is_hex),
            ("SSDEEP", _) => {
                let is_symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"/+:.".contains(&byte);
                (1..=128).contains(&text.len()) && text.bytes().all(is_symbol)
            }
            _ => true,
        };
        if !fits {
            let value = text.chars().take(80).collect();
            return Err(PatternFault::Digest { algorithm: algorithm.chars().take(40).collect(), value });
        }
    }
    Ok(())
}

/// A constant as it is written, without its quotes.
fn text_of(constant: &Constant) -> String {
    match constant {
        Constant::Text(text) | Constant::Integer(text) | Constant::Float(text) => text.clone(),
        Constant::Boolean(value) => value.to_string(),
        Constant::Timestamp(text) => format!("t{text}"),
        Constant::Hexadecimal(text) => format!("h{text}"),
        Constant::Base64(text) => format!("b{text}"),
    }
}
