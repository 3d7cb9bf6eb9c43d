"""simplify: each rule, and what looks like one but would change bits."""

import pytest
from texts import check_text

from neurojit.passes.simplify import SIMPLIFY

CONSTANTS = """%k0 = constant() {value = dense<0.0> : tensor<f32>} :  -> f32
%n0 = constant() {value = dense<-0.0> : tensor<f32>} :  -> f32
%k1 = constant() {value = dense<1.0> : tensor<2x3xf32>} :  -> 2x3xf32
%n1 = constant() {value = dense<-1.0> : tensor<f32>} :  -> f32
%k8 = constant() {value = dense<8.0> : tensor<f32>} :  -> f32
%k3 = constant() {value = dense<3.0> : tensor<f32>} :  -> f32
%i0 = constant() {value = dense<0> : tensor<i32>} :  -> i32
%big = constant() {value = dense<1.0> : tensor<4x2x3xf32>} :  -> 4x2x3xf32
%nx = neg(%x) : 2x3xf32 -> 2x3xf32
%ny = neg(%y) : 2x3xf32 -> 2x3xf32
%ax = abs(%x) : 2x3xf32 -> 2x3xf32
%rx = relu(%x) : 2x3xf32 -> 2x3xf32
%nc = not(%c) : 2x3xi1 -> 2x3xi1
%eq = compare(%x, %y) {predicate = "eq"} : 2x3xf32 2x3xf32 -> 2x3xi1
%lt = compare(%x, %y) {predicate = "lt"} : 2x3xf32 2x3xf32 -> 2x3xi1
"""
F, G, B = "2x3xf32", "2x3xf32 f32", "2x3xi1"
VANISHES = [
    (f"add(%x, %n0) : {G} -> {F}", "%x"), (f"sub(%x, %k0) : {G} -> {F}", "%x"),
    ("add(%i, %i0) : 2x3xi32 i32 -> 2x3xi32", "%i"), (f"mul(%x, %k1) : {F} {F} -> {F}", "%x"),
    (f"div(%x, %k1) : {F} {F} -> {F}", "%x"), (f"maximum(%x, %x) : {F} {F} -> {F}", "%x"),
    (f"minimum(%x, %x) : {F} {F} -> {F}", "%x"), (f"and(%c, %c) : {B} {B} -> {B}", "%c"),
    (f"or(%c, %c) : {B} {B} -> {B}", "%c"), (f"neg(%nx) : {F} -> {F}", "%x"),
    (f"abs(%ax) : {F} -> {F}", "%ax"),
    (f"relu(%rx) : {F} -> {F}", "%rx"),
    (f"not(%nc) : {B} -> {B}", "%c"),
    (f"select(%c, %x, %x) : {B} {F} {F} -> {F}", "%x"),
]  # fmt: skip
BECOMES = [
    (f"mul(%x, %n1) : {G} -> {F}", f"neg(%x) : {F} -> {F}"),
    (f"add(%x, %ny) : {F} {F} -> {F}", f"sub(%x, %y) : {F} {F} -> {F}"),
    (f"add(%nx, %y) : {F} {F} -> {F}", f"sub(%y, %x) : {F} {F} -> {F}"),
    (f"sub(%x, %ny) : {F} {F} -> {F}", f"add(%x, %y) : {F} {F} -> {F}"),
    (f"mul(%nx, %ny) : {F} {F} -> {F}", f"mul(%x, %y) : {F} {F} -> {F}"),
    (f"div(%nx, %ny) : {F} {F} -> {F}", f"div(%x, %y) : {F} {F} -> {F}"),
    (f"abs(%nx) : {F} -> {F}", f"abs(%x) : {F} -> {F}"),
    (f"maximum(%x, %k0) : {G} -> {F}", f"relu(%x) : {F} -> {F}"),
    (f"not(%eq) : {B} -> {B}", f'compare(%x, %y) {{predicate = "ne"}} : {F} {F} -> {B}'),
    (f"select(%nc, %x, %y) : {B} {F} {F} -> {F}", f"select(%c, %y, %x) : {B} {F} {F} -> {F}"),
]
STAYS = [
    f"add(%x, %k0) : {G} -> {F}",  # -0 + 0 is 0
    f"sub(%x, %n0) : {G} -> {F}",
    "mul(%x, %big) : 2x3xf32 4x2x3xf32 -> 4x2x3xf32",  # the result is larger than x
    f"div(%x, %k3) : {G} -> {F}",  # 1/3 rounds
    f"mul(%x, %k0) : {G} -> {F}",  # inf * 0 is NaN
    f"sub(%x, %x) : {F} {F} -> {F}",
    f"not(%lt) : {B} -> {B}",  # NaN is neither less nor not less
]


def result_of(line: str) -> str:
    return line.rpartition(" -> ")[2]


@pytest.mark.parametrize(("line", "value"), VANISHES)
def test_vanishes(line: str, value: str) -> None:
    end = f": {result_of(line)}"
    check_text(SIMPLIFY, f"{CONSTANTS}%r = {line}\nreturn %r {end}", f"{CONSTANTS}return {value} {end}")


@pytest.mark.parametrize(("line", "other"), BECOMES)
def test_becomes(line: str, other: str) -> None:
    end = f"return %r : {result_of(line)}"
    check_text(SIMPLIFY, f"{CONSTANTS}%r = {line}\n{end}", f"{CONSTANTS}%r = {other}\n{end}")


@pytest.mark.parametrize("line", STAYS)
def test_stays(line: str) -> None:
    text = f"{CONSTANTS}%r = {line}\nreturn %r : {result_of(line)}"
    check_text(SIMPLIFY, text, text)


def test_division_by_a_power_of_two() -> None:
    check_text(
        SIMPLIFY,
        f"{CONSTANTS}%r = div(%x, %k8) : {G} -> {F}\nreturn %r : {F}",
        f"{CONSTANTS}%k8_1 = constant() {{value = dense<0.125> : tensor<f32>}} :  -> f32\n"
        f"%r = mul(%x, %k8_1) : {G} -> {F}\nreturn %r : {F}",
    )
