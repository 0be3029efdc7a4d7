"""Assignments in C++ files."""

from __future__ import annotations

import pytest

from memplan.documents.assignments import find
from memplan.documents.cpp import assignments
from memplan.documents.source import Source

PROGRAM = """\
#pragma once
#define SIZE 8 // bytes
#define HALF (SIZE / 2)
#define EMPTY
// commented.out = 1;
#if 0
int dead = 1;
#elif defined(OTHER)
int other = 2;
#else
int live = 3;
#endif
#if 1
int kept = 4;
#else
int dropped = 5;
#endif
namespace brain::core {
const int kDim = 32'768;
class Config : public Base {
 public:
  int num_outputs = 8;  // outputs
  static constexpr size_t kMask{0x1FUL};
  unsigned long first = 3u, second{4};
  int unset;
};
}  // namespace brain::core
void Orchestrator::init(int n = 7) {
  config.num_outputs = 32768;
  cfg->n = 4;
  this->rate = -1.5e-3f;
  Settings::limit = 010;
  table[0] = 6;
  const char* name = "broca.n = 5;";
  bool flag = true;
  config . spaced
      = 9;
  a = b = 3;
  total += 10;
  if (x == 3) { y <= 4; }
  auto call = make(1);
}
"""


def test_members_constants_macros_and_initialisers_are_found() -> None:
    found = {item.key: item.node for item in assignments(Source.of(PROGRAM, "t.cpp"))}
    editable = {key: node.value for key, node in found.items() if node.fixed is None}
    assert editable == {
        "SIZE": 8,
        "other": 2,
        "live": 3,
        "kept": 4,
        "brain.core.kDim": 32768,
        "brain.core.Config.num_outputs": 8,
        "brain.core.Config.kMask": 31,
        "brain.core.Config.first": 3,
        "brain.core.Config.second": 4,
        "config.num_outputs": 32768,
        "cfg->n": 4,
        "this->rate": -1.5e-3,
        "Settings::limit": 8,
        "table[0]": 6,
        "name": "broca.n = 5;",
        "flag": True,
        "config.spaced": 9,
    }
    assert set(found) - set(editable) == {"HALF", "a", "b", "call"}
    assert "several names" in (found["b"].fixed or "")


@pytest.mark.parametrize(
    "text", [PROGRAM, "\ufeff" + PROGRAM, PROGRAM.replace("\n", "\r\n"), "// é 😀\n" + PROGRAM]
)
def test_spans_are_in_characters(text: str) -> None:
    source = Source.of(text, "t.cpp")
    found = assignments(source)
    assert len(found) == 21
    for item in found:
        assert source.text[item.node.span.start : item.node.span.end] == item.node.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("int x = N * 2;", "expression"),
        ("int x = 'a';", "string of one line"),
        ('auto x = R"(a)";', "expression"),
        ('auto x = L"a";', "expression"),
        ("int x = static_cast<int>(8);", "expression"),
        ("double x = 1e400;", "floating point"),
        ("void* x = nullptr;", "expression"),
        ("int x = 0x" + "f" * 40 + ";", "10**30"),
        (r'auto x = "\x41";', "escape"),
    ],
)
def test_what_is_no_plain_literal_is_fixed_with_a_reason(text: str, reason: str) -> None:
    (item,) = assignments(Source.of(text, "t.cpp"))
    assert reason in (item.node.fixed or "")


def test_macros_and_cuda_that_the_grammar_does_not_know_are_read_over() -> None:
    text = """\
NEUROGEN_BEGIN
EXPORT_API void f() { first.n = 1; }
PYBIND11_MODULE(neurogen, m) {
  REGISTER(m)
  m.def("x", [](int k) { second.n = 2; });
  kernel<<<grid, block>>>(k);
  third.n = 3;
}
"""
    source = Source.of(text, "t.cu")
    assert [find(source, f"{name}.n").node.value for name in ("first", "second", "third")] == [1, 2, 3]
