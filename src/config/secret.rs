//! What is a secret, judged by its name and by what its value looks like.
//!
//! Two mistakes are possible. A secret taken for something harmless ends in a trace that the coding agent reads; something
//! harmless taken for a secret is missing in the benchmark, or turns every `100000` of a trace into `***`. So names are
//! read word by word, numbers under names that count (`MAX_TOKENS`) are numbers, and values are looked at as well.

use serde_json::Value;

/// Shorter values are too common in ordinary text to be worth hiding.
pub(super) const SHORTEST_SECRET: usize = 6;

/// A name that contains one of these anywhere promises a secret.
const ALWAYS: [&str; 7] = ["PASSWORD", "PASSWD", "PASSPHRASE", "PASSCODE", "SECRET", "CREDENTIAL", "WEBHOOK"];
/// Words that hold one of the others by accident. AUTHOR says who wrote something; AUTHORIZATION is a secret all the same.
const ORDINARY: [&str; 13] = [
    "AUTHOR", "KEYBOARD", "KEYWORD", "KEYMAP", "KEYCODE", "HOTKEY", "MONKEY", "TURKEY", "BYPASS", "COMPASS", "ASKPASS",
    "TOKENIZ", "TOKENIS",
];
/// Once the ordinary words are gone, these give a secret away, wherever they occur.
const PARTS: [&str; 3] = ["AUTH", "KEY", "COOKIE"];
/// These only at the end of a word: a PASSENGER or a PATH hides nothing.
const ENDINGS: [&str; 2] = ["PASS", "PWD"];
/// These only as a whole word.
const WORDS: [&str; 8] = ["PAT", "PW", "CRED", "CREDS", "BEARER", "JWT", "OTP", "PSK"];
/// Beside TOKEN, these say that tokens are counted.
const COUNTING: [&str; 20] = [
    "MAX", "MIN", "MAXIMUM", "MINIMUM", "NUM", "N", "NUMBER", "TOTAL", "COUNT", "LIMIT", "BUDGET", "PER", "LENGTH",
    "LEN", "SIZE", "WINDOW", "NEW", "RATE", "COST", "PRICE",
];
/// The shell's own: where it is, and where it was.
const DIRECTORIES: [&str; 2] = ["PWD", "OLDPWD"];

/// How tokens of well-known services begin. They are secret under any name.
const TOKEN_STARTS: [&str; 19] = [
    "sk-",
    "sk_live_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "hf_",
    "gsk_",
    "AIza",
    "e2b_",
    "dtn_",
    "pypi-",
];
/// Their least length: `hf_transfer` is no token.
const TOKEN_LENGTH: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    Nothing,
    /// May mean a number of tokens, or several tokens: the value decides.
    Tokens,
    Secret,
}

fn promise(name: &str) -> Promise {
    if DIRECTORIES.contains(&name) {
        return Promise::Nothing;
    }
    let words = words(name);
    let whole = words.concat();
    if ALWAYS.iter().any(|part| whole.contains(part)) {
        return Promise::Secret;
    }
    let cleaned: Vec<String> = words
        .iter()
        .map(|word| ORDINARY.iter().fold(word.replace("AUTHORI", "AUTH"), |word, known| word.replace(known, "")))
        .collect();
    let secret = cleaned.iter().any(|word| {
        PARTS.iter().any(|part| word.contains(part))
            || ENDINGS.iter().any(|end| word.ends_with(end))
            || WORDS.contains(&word.as_str())
    });
    if secret {
        return Promise::Secret;
    }
    let tokens = |word: &String| word.contains("TOKEN");
    if !cleaned.iter().any(tokens) {
        return Promise::Nothing;
    }
    let counts = words.iter().any(|word| COUNTING.contains(&word.as_str()));
    let many = cleaned.iter().filter(|word| tokens(word)).all(|word| word.ends_with("TOKENS"));
    if counts || many { Promise::Tokens } else { Promise::Secret }
}

/// The words of `DB_PASS`, `--api-key`, `javax.net.ssl.keyStorePassword`, in capitals and without numbers at their end.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_uppercase());
        }
        before = c;
    }
    words.iter().map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_string()).collect()
}

/// Whether a name (of a variable, an option, an argument) promises a secret. Where the value is known, [`is_secret`] knows
/// better.
pub fn is_secret_name(name: &str) -> bool {
    promise(name) != Promise::Nothing
}

/// Whether this value under this name is a secret: `TOKENS=xoxb-1,xoxb-2` is, `MAX_TOKENS=100000` is not.
pub(crate) fn is_secret(name: &str, value: &str) -> bool {
    match promise(name) {
        Promise::Nothing => false,
        Promise::Tokens => !is_plain(value),
        Promise::Secret => true,
    }
}

/// Whether the name is a plural: then each value is a secret of its own.
pub(super) fn is_list(name: &str) -> bool {
    name.ends_with(['s', 'S'])
}

/// A number, a switch, or nothing: no secret unless its name says so.
pub(super) fn is_plain(value: &str) -> bool {
    let value = value.trim();
    let number = value.trim_end_matches(['%', 'k', 'K', 'm', 'M']).replace(['_', ','], "");
    let switches = ["true", "false", "yes", "no", "on", "off", "none", "null", "auto", "unlimited"];
    value.is_empty() || number.parse::<f64>().is_ok() || switches.contains(&value.to_ascii_lowercase().as_str())
}

/// Whether a variable names a proxy: a child needs it to reach the network, password and all.
pub(super) fn is_proxy(name: &str) -> bool {
    name.to_ascii_uppercase().ends_with("_PROXY")
}

/// The secrets inside a value, whatever its name: passwords in addresses, `password=…` in connection strings and options,
/// bearer tokens, tokens and private keys that can be told by their looks.
pub(crate) fn secrets_inside(value: &str) -> Vec<String> {
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY-----") {
        return vec![value.trim().to_string()];
    }
    let mut found = Vec::new();
    for (at, _) in value.match_indices("://") {
        in_address(&value[..at], &value[at + 3..], &mut found);
    }
    let separates = |c: char| c.is_whitespace() || matches!(c, ';' | '&' | '?' | ',' | '"' | '\'' | '|');
    let mut after_scheme = false;
    for piece in value.split(separates).filter(|piece| !piece.is_empty()) {
        let scheme = ["bearer", "basic"].contains(&piece.to_ascii_lowercase().as_str());
        let text = piece.split_once('=').map_or(piece, |(_, text)| text);
        let named = piece.split_once('=').is_some_and(|(name, text)| is_secret(name, text) && !is_plain(text));
        if (named || after_scheme || is_token(text)) && !scheme {
            found.push(text.to_string());
        }
        after_scheme = scheme;
    }
    found.retain(|secret| secret.chars().count() >= SHORTEST_SECRET);
    found
}

/// The user and the password of `scheme://user:password@host/`, and the password as a program sees it.
fn in_address(before: &str, rest: &str, found: &mut Vec<String>) {
    let rest =
        rest.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>')).next().unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password may hold a `/` that should have been escaped; a number before it is a port.
    let port = authority.split_once(':').is_none_or(|(_, port)| port.chars().all(|c| c.is_ascii_digit()));
    let credentials = match authority.rsplit_once('@') {
        None if !port => rest.rsplit_once('@'),
        found => found,
    };
    let Some((credentials, _)) = credentials else { return };
    let Some((_, password)) = credentials.split_once(':') else {
        // A user name alone is a token only where tokens are used this way; `postgres://postgres@host` is harmless.
        if before.to_ascii_lowercase().ends_with("http") || before.to_ascii_lowercase().ends_with("https") {
            found.push(credentials.to_string());
        }
        return;
    };
    found.extend([credentials.to_string(), password.to_string()]);
    if password.contains('%') {
        found.push(String::from_utf8_lossy(&percent_decoded(password)).into_owned());
    }
}

/// The bytes that a part of an address stands for: `%41` is `A`.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn is_token(piece: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let web = piece.starts_with("eyJ") && piece.matches('.').count() == 2;
    let known = web || TOKEN_STARTS.iter().any(|start| piece.starts_with(start));
    known && piece.len() >= TOKEN_LENGTH && piece.chars().all(word)
}

/// What stands in for a value that looks like a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

/// Hides texts under names such as `api_key`. Numbers stay: `max_tokens: 4096` is no secret.
pub(super) fn hide_values(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if is_secret(name, text) => *value = HIDDEN.into(),
                    value => hide_values(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_values),
        Value::String(text) => *text = hide_inside(text),
        _ => {}
    }
}

/// Hides passwords in addresses and the like.
fn hide_inside(text: &str) -> String {
    let mut secrets = secrets_inside(text);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret, HIDDEN))
}

/// Hides the values of arguments such as `--api-key x` and `--api-key=x`.
pub(crate) fn hide_arguments(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut expects_secret = false;
    for argument in arguments {
        let number = argument.parse::<f64>().is_ok();
        shown.push(match argument.split_once('=') {
            Some((name, value)) if is_secret_name(name) && value.parse::<f64>().is_err() => format!("{name}={HIDDEN}"),
            _ if expects_secret && !number && !argument.starts_with('-') => HIDDEN.into(),
            _ => hide_inside(argument),
        });
        expects_secret = argument.starts_with('-') && !argument.contains('=') && is_secret_name(argument);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_word_by_word() {
        let secret = [
            "DB_PASS",
            "DBPASS",
            "dbPass",
            "GITHUB_PAT",
            "AZURE_DEVOPS_EXT_PAT",
            "githubPat",
            "MYSQL_PWD",
            "DBPWD",
            "SSH_PASSPHRASE",
            "OPENAI_API_KEY",
            "APIKEY",
            "KEY2",
            "openai.api-key",
            "OPENAI_KEYS",
            "github_token",
            "MAIN_TOKEN",
            "hfToken",
            "Authorization",
            "PROXY_AUTH",
            "AUTHENTICATION",
            "XAUTHORITY",
            "SESSION_COOKIE",
            "SLACK_WEBHOOK_URL",
            "DB_CREDS",
            "JWT",
            "--api-key",
            "TELECOMPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "PASSWORD1",
            "REDISCLI_AUTH",
            "CI_JOB_JWT_V2",
            "ROOT_PW",
        ];
        let harmless = [
            "PWD",
            "OLDPWD",
            "PATH",
            "PATTERN",
            "COMPASS",
            "BYPASS_CACHE",
            "SSH_ASKPASS",
            "PASSENGERS",
            "TOKENIZERS_PARALLELISM",
            "tokenizer",
            "GIT_AUTHOR_NAME",
            "AUTHORS",
            "KEYBOARD_LAYOUT",
            "XKB_KEYMAP",
            "MONKEY",
            "LANG",
            "PASSED",
            "SPATIAL",
            "USER",
            "CREDIT",
            "BEARERS",
            "TOKENIZATION",
        ];
        for name in secret {
            assert!(is_secret_name(name) && is_secret(name, "some-value"), "{name}");
        }
        for name in harmless {
            assert!(!is_secret_name(name) && !is_secret(name, "some-value"), "{name}");
        }
    }

    #[test]
    fn numbers_of_tokens_are_numbers_and_lists_of_tokens_are_secrets() {
        for name in [
            "MAX_TOKENS",
            "max_tokens",
            "maxTokens",
            "TOKENS",
            "MAX_TOKEN",
            "TOKEN_LIMIT",
            "OUTPUT_TOKENS",
            "TOKENS_PER_MINUTE",
        ] {
            for plain in ["100000", "1e6", "100_000", "128k", "", "true", "auto"] {
                assert!(!is_secret(name, plain), "{name}={plain}");
            }
            assert!(is_secret(name, "xoxb-one,xoxb-two"), "{name}");
        }
        // A number that is named a password is a secret.
        assert!(is_secret("DB_PASSWORD", "12345678") && is_secret("BOT_TOKEN", "12345678"));
    }

    #[test]
    fn values_give_secrets_away() {
        let cases: [(&str, &[&str]); 21] = [
            ("postgres://u:pgpgpgpg@h/db", &["u:pgpgpgpg", "pgpgpgpg"]),
            ("http://u:p%40ss%2Fword@h:3128", &["u:p%40ss%2Fword", "p%40ss%2Fword", "p@ss/word"]),
            ("postgres://u:pa/ssword@h/db", &["u:pa/ssword", "pa/ssword"]),
            ("https://bob:pw@h/", &["bob:pw"]),
            ("https://abcdef0123@github.com/x", &["abcdef0123"]),
            ("postgres://postgres@localhost/db", &[]),
            ("http://proxy:3128/a@b", &[]),
            ("http://proxy.example:3128", &[]),
            ("https://h/?api_key=abcdefgh&page=1", &["abcdefgh"]),
            ("a=1 amqp://x:yyyyyy@h,amqp://x:zzzzzz@h", &["x:yyyyyy", "yyyyyy", "x:zzzzzz", "zzzzzz"]),
            ("Server=h;User=u;Password=letmein1", &["letmein1"]),
            ("-Djavax.net.ssl.keyStorePassword=changeit -Xmx1g", &["changeit"]),
            ("AccountName=x;AccountKey=abc123==", &["abc123=="]),
            ("Authorization: Bearer abcdefghij", &["abcdefghij"]),
            ("ghp_0123456789abcdefghij", &["ghp_0123456789abcdefghij"]),
            ("eyJhbGciOi.eyJzdWIiOiI.c2lnbmF0dXJl", &["eyJhbGciOi.eyJzdWIiOiI.c2lnbmF0dXJl"]),
            ("hf_transfer", &[]),
            ("sk-learn", &[]),
            ("--max-tokens=100000", &[]),
            ("rs=0:di=01;34:*.key=00;31", &[]),
            ("-----BEGIN RSA PRIVATE KEY-----\nabc\n", &["-----BEGIN RSA PRIVATE KEY-----\nabc"]),
        ];
        for (value, expected) in cases {
            assert_eq!(secrets_inside(value), expected, "{value}");
        }
    }
}
