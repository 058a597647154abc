//! A source file as far as the rules need it: which names it uses where, and how long its functions are. Tokens rather
//! than text, so that comments and strings do not count; tokens rather than syntax, so that macro arguments do.

use std::iter::Peekable;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree, token_stream};

type Tokens = Peekable<token_stream::IntoIter>;

/// A file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// How many lines it has.
    pub lines: usize,
    /// Every path that it names, test modules left out.
    pub names: Vec<Name>,
    /// Every function with a body.
    pub functions: Vec<Function>,
}

/// A path such as `crate::intel::Indicator`; a `use` of several is several.
#[derive(Debug)]
pub struct Name {
    /// Its parts.
    pub path: Vec<String>,
    /// Where.
    pub line: usize,
}

/// A function with a body.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where it starts.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

impl Source {
    /// Takes the file apart.
    pub fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let mut source = Self { path, lines: text.lines().count(), names: Vec::new(), functions: Vec::new() };
        source.walk(tokens);
        Ok(source)
    }

    /// Whether the file is a test module, to which the rules of the rooms do not apply.
    pub fn is_test(&self) -> bool {
        self.path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "benches" || part == "examples")
    }

    fn walk(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute(&mut tokens),
                TokenTree::Group(group) => self.walk(group.stream()),
                TokenTree::Ident(ident) => {
                    if ident == "fn" {
                        self.function(ident.span().start().line, tokens.clone());
                    }
                    self.name(vec![ident.to_string()], ident.span().start().line, &mut tokens);
                }
                _ => {}
            }
        }
    }

    fn attribute(&mut self, tokens: &mut Tokens) {
        let Some(TokenTree::Group(group)) = tokens.peek() else { return };
        let is_test = group.stream().to_string().replace(' ', "") == "cfg(test)";
        if !is_test {
            return;
        }
        for token in tokens.by_ref() {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
                TokenTree::Punct(punct) if punct.as_char() == ';' => return,
                _ => {}
            }
        }
    }

    fn function(&mut self, line: usize, mut tokens: Tokens) {
        let Some(TokenTree::Ident(name)) = tokens.next() else { return };
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ';' => return,
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let lines = group.span_close().end().line - line + 1;
                    self.functions.push(Function { name: name.to_string(), line, lines });
                    return;
                }
                _ => {}
            }
        }
    }

    /// Follows a path to its end, and into each branch of a group.
    fn name(&mut self, mut path: Vec<String>, line: usize, tokens: &mut Tokens) {
        while is_path_separator(tokens) {
            tokens.nth(1);
            match tokens.peek() {
                Some(TokenTree::Ident(ident)) => {
                    path.push(ident.to_string());
                    tokens.next();
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let branches = group.stream();
                    tokens.next();
                    self.branches(&path, branches);
                    return;
                }
                _ => break,
            }
        }
        self.names.push(Name { path, line });
    }

    fn branches(&mut self, prefix: &[String], tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            if let TokenTree::Ident(ident) = token {
                let mut path = prefix.to_vec();
                if ident != "self" {
                    path.push(ident.to_string());
                }
                self.name(path, ident.span().start().line, &mut tokens);
            }
        }
    }
}

fn is_path_separator(tokens: &Tokens) -> bool {
    let mut ahead = tokens.clone();
    let colon = |token: Option<TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(ahead.next()) && colon(ahead.next())
}

impl Name {
    /// The room of `agent` that this path leads into, when it is used in the file `inside` (relative to `agent/src`).
    pub fn room(&self, inside: &Path) -> Option<&str> {
        let supers = self.path.iter().take_while(|part| *part == "super").count();
        let to_root = match self.path.first()?.as_str() {
            "crate" | "agent" => 1,
            "super" if supers == depth(inside) => supers,
            _ => return None,
        };
        self.path.get(to_root).map(String::as_str)
    }

    /// Whether these parts follow one another somewhere in the path.
    pub fn holds(&self, parts: &[&str]) -> bool {
        self.path.windows(parts.len()).any(|window| window == parts)
    }
}

/// How many modules below the crate's root a file's module is.
fn depth(inside: &Path) -> usize {
    let parts = inside.iter().count();
    if inside.file_name().is_some_and(|name| name == "mod.rs") { parts - 1 } else { parts }
}
