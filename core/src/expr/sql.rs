//! SQL text to a syntax tree, checked before anything else looks at it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::datatypes::SchemaRef;
use datafusion_sql::sqlparser::ast::{Expr as Syntax, Function, Ident, Query, SelectItem, Value, Visit, Visitor, visit_expressions_mut};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::plan::nearest;
use thalweg_sql::{FUNCTIONS, Known};

/// Levels to which parentheses, calls and the like may be nested: each costs a stack frame of several kilobytes in the parser.
const MAX_NESTING: usize = 50;

/// Levels of the syntax tree. Chains such as `a + b + c` nest without parentheses; planning recurses, and
/// this many levels fit the 2 MiB stack of a spawned thread several times over.
const MAX_DEPTH: usize = 128;

/// Operators and words in one expression, before it is known how they nest: bounds what dropping the tree recurses into.
const MAX_OPERATORS: usize = 2_048;

/// Words that keep their meaning in SQL even where a column has the same name.
const RESERVED: &[Keyword] = &[
    Keyword::AND,
    Keyword::OR,
    Keyword::NOT,
    Keyword::IN,
    Keyword::IS,
    Keyword::NULL,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::BETWEEN,
    Keyword::CASE,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::END,
    Keyword::AS,
    Keyword::TRUE,
    Keyword::FALSE,
    Keyword::FROM,
    Keyword::DISTINCT,
    Keyword::ESCAPE,
    Keyword::SELECT,
];

/// One entry of a list of expressions.
pub(super) struct Entry {
    /// The expression; `None` stands for all columns (`*`).
    pub(super) syntax: Option<Syntax>,
    /// The name after `AS`.
    pub(super) alias: Option<String>,
}

/// Reads a comma-separated list of expressions. The error is a message that lacks the name of the expression.
pub(super) fn parse(text: &str, schema: &SchemaRef) -> Result<Vec<Entry>, String> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
    let mut tokens = tokens.map_err(|error| {
        format!("syntax error at line {}, column {}: {}", error.location.line, error.location.column, lower_first(&error.message))
    })?;
    if tokens.iter().all(|token| matches!(token.token, Token::Whitespace(_))) {
        return Err("the text is empty; write for example `amount > 10`".to_owned());
    }
    let operators = tokens.iter().filter(|token| is_operator(&token.token)).count();
    if operators > MAX_OPERATORS {
        return Err(format!(
            "{operators} operators and names are more than the {MAX_OPERATORS} allowed; use IN (..) for long lists of values"
        ));
    }
    let quoted = quote_columns(&mut tokens, schema);

    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_NESTING).with_tokens_with_locations(tokens);
    let items = parser.parse_comma_separated(Parser::parse_select_item).map_err(|error| syntax_error(&error))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let found = parser.expected::<()>("an operator or the end", rest);
        return Err(found.map_or_else(|error| syntax_error(&error), |()| String::new()));
    }
    items.into_iter().map(|item| entry(item, &quoted)).collect()
}

fn entry(item: SelectItem, quoted: &HashSet<Location>) -> Result<Entry, String> {
    let mut entry = match item {
        SelectItem::UnnamedExpr(syntax) => Entry { syntax: Some(syntax), alias: None },
        SelectItem::ExprWithAlias { expr, alias } => Entry { syntax: Some(expr), alias: Some(alias.value) },
        SelectItem::Wildcard(options) if options == Default::default() => return Ok(Entry { syntax: None, alias: None }),
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
            return Err("a star has nothing before or behind it, and an expression has one name".to_owned());
        }
    };
    if let Some(syntax) = &mut entry.syntax {
        if let ControlFlow::Break(refusal) = syntax.visit(&mut Check { depth: 0 }) {
            return Err(refusal);
        }
        unquote(syntax, quoted);
    }
    Ok(entry)
}

/// Takes back the quotes that [`quote_columns`] put, which would show in the names of unnamed results.
fn unquote(syntax: &mut Syntax, quoted: &HashSet<Location>) {
    let unquote = |ident: &mut Ident| {
        if quoted.contains(&ident.span.start) {
            ident.quote_style = None;
        }
    };
    // The closure never breaks.
    let _ = visit_expressions_mut(syntax, |node| {
        match node {
            Syntax::Identifier(ident) => unquote(ident),
            Syntax::CompoundIdentifier(idents) => idents.iter_mut().for_each(unquote),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Puts quotes around words that are columns of the schema but that SQL would otherwise take for something
/// else, such as `user`, `timestamp` or `interval`; where they stand is returned.
fn quote_columns(tokens: &mut [TokenWithSpan], schema: &SchemaRef) -> HashSet<Location> {
    let mut quoted = HashSet::new();
    let solid: Vec<usize> = (0..tokens.len()).filter(|&at| !matches!(tokens[at].token, Token::Whitespace(_))).collect();
    for (position, &at) in solid.iter().enumerate() {
        let before = position.checked_sub(1).map(|position| &tokens[solid[position]].token);
        let after = solid.get(position + 1).map(|&next| &tokens[next].token);
        let is_type =
            matches!(before, Some(Token::Word(word)) if word.keyword == Keyword::AS) || matches!(before, Some(Token::DoubleColon));
        let is_prefix = match after {
            Some(Token::LParen | Token::SingleQuotedString(_)) => true,
            Some(Token::Word(word)) => word.keyword == Keyword::FROM,
            _ => false,
        };
        let start = tokens[at].span.start;
        if let Token::Word(word) = &mut tokens[at].token
            && word.quote_style.is_none()
            && word.keyword != Keyword::NoKeyword
            && !RESERVED.contains(&word.keyword)
            && schema.fields().iter().any(|field| *field.name() == word.value)
            && !is_type
            && !is_prefix
        {
            (word.quote_style, word.keyword) = (Some('"'), Keyword::NoKeyword);
            quoted.insert(start);
        }
    }
    quoted
}

fn is_operator(token: &Token) -> bool {
    !matches!(token, Token::Whitespace(_) | Token::Comma | Token::LParen | Token::RParen | Token::Number(..) | Token::SingleQuotedString(_))
}

fn syntax_error(error: &ParserError) -> String {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return format!("it is nested deeper than {MAX_NESTING} levels; compute parts of it as columns first");
        }
    };
    let placed = message.rsplit_once(" at Line: ").and_then(|(what, place)| Some((what, place.split_once(", Column: ")?)));
    match placed {
        Some((what, (line, column))) => format!("syntax error at line {line}, column {column}: {}", lower_first(what)),
        None => format!("syntax error at the end: {}", lower_first(message).replace("found EOF", "found the end")),
    }
}

/// A sentence of the parser as the middle of ours.
fn lower_first(message: &str) -> String {
    let message = message.replace("Expected: ", "expected ").replace(", found: ", ", found ");
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Refuses what an expression over one row cannot be, and trees too deep to be planned by recursion.
struct Check {
    depth: usize,
}

impl Visitor for Check {
    type Break = String;

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<String> {
        ControlFlow::Break(
            "a subquery reads a whole table, but an expression sees one row at a time; join the other stream instead".to_owned(),
        )
    }

    fn pre_visit_expr(&mut self, syntax: &Syntax) -> ControlFlow<String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return ControlFlow::Break(format!(
                "it chains or nests more than {MAX_DEPTH} operators; use IN (..) for long lists of values, or compute parts of it as columns first"
            ));
        }
        let refusal = match syntax {
            Syntax::Function(function) => refuse_function(function),
            Syntax::Value(value) => match &value.value {
                Value::Placeholder(name) => {
                    Some(format!("`{name}` is a placeholder, which an expression cannot have; write the value itself"))
                }
                _ => None,
            },
            _ => None,
        };
        refusal.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }

    fn post_visit_expr(&mut self, _syntax: &Syntax) -> ControlFlow<String> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

fn refuse_function(function: &Function) -> Option<String> {
    let written = function.name.to_string();
    let name = written.to_lowercase();
    if function.over.is_some() {
        return Some(format!("`{written}(..) OVER (..)` looks at more than one row; use `.window(..).agg(..)` for that"));
    }
    match FUNCTIONS.find(&name) {
        Known::Scalar => None,
        Known::OverRows => Some(format!(
            "`{written}` looks at more than one row, but an expression sees one row at a time; use `.window(..).agg(..)` for that"
        )),
        Known::Unrepeatable => Some(format!(
            "`{written}` gives another answer each time, so that a replay after a crash would differ; put the value into a column at the source"
        )),
        Known::Unknown => {
            let hint = nearest(&name, FUNCTIONS.names()).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            Some(format!("there is no function `{written}`{hint}"))
        }
    }
}
