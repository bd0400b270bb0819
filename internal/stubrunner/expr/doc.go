// SPDX-License-Identifier: Apache-2.0

// Package expr evaluates GitHub Actions expressions (the text between "${{" and "}}").
//
// Guarantees: values, truthiness, comparison and conversion to text follow the rules of GitHub's runner: strings are
// compared without regard to case, unlike kinds are compared as numbers, objects and arrays are equal only to
// themselves, numbers print with 15 significant digits. An unknown context or function is an error, an unknown property
// is null.
//
// Trusts: github.com/rhysd/actionlint for the grammar. Two deviations come with it: a chain of comparisons without
// parentheses (a == b == c) groups to the right, and integer literals end at 32 bits.
//
// Does not: limit the memory an expression may use.
package expr
