// SPDX-License-Identifier: GPL-2.0

//! `#[pin_data]` of the kernel's pin-init, where nothing need be pinned.

use proc_macro::{Group, TokenStream, TokenTree};

/// Leaves the struct as it is, without `#[pin]` at its fields.
#[proc_macro_attribute]
pub fn pin_data(_: TokenStream, item: TokenStream) -> TokenStream {
    without_pin(item)
}

fn without_pin(tokens: TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut kept = Vec::new();
    while let Some(token) = tokens.next() {
        let is_hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        if is_hash && tokens.next_if(is_pin).is_some() {
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => {
                let inner = without_pin(group.stream());
                TokenTree::Group(Group::new(group.delimiter(), inner))
            }
            other => other,
        });
    }
    kept.into_iter().collect()
}

fn is_pin(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.stream().to_string() == "pin")
}
