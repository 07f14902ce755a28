"""Lengths of texts, and how full the stages' batches of them are: the code that makes batches, run on a sample.

The sample is numbers alone, tokens of SmolLM2's tokenizer; docs/paper-scale.md says of what data and how counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pessimism.experiment.params import LengthParams
from pessimism.models.compute.batching import length_groups, token_batches, unmasked_queries
from pessimism.models.compute.length_groups import SortedBatches

_PAIRS = """
    22/340/115 527/237/273 15/570/236 10/418/145 438/432/273 165/62/146 24/522/444 63/908/498 54/872/765 554/471/291
    34/13/73 136/1/73 247/280/249 35/31/583 38/359/232 233/127/276 375/394/540 12/259/31 63/396/515 41/36/22
    16/251/47 31/57/76 561/188/315 164/38/100 518/480/485 127/113/576 167/268/328 26/22/177 450/66/74 87/208/255
    256/421/441 178/201/368 35/234/460 92/41/37 48/59/104 81/27/577 95/205/311 100/367/215 452/17/78 241/196/271
    43/194/91 251/465/291 150/2/185 272/16/9 118/84/344 70/14/340 44/534/504 175/118/199 439/245/317 14/576/92
    482/46/60 93/91/159 84/153/32 8/224/88 85/132/328 174/113/13 412/219/233 380/123/69 37/24/128 33/573/212
    70/434/653 250/279/962 40/42/93 544/319/374 485/3/102 33/121/398 27/69/1000 164/75/338 463/255/453 436/51/339
    59/317/100 561/450/601 61/289/557 611/437/662 58/242/419 17/45/48 217/11/94 73/3/28 120/314/37 37/278/358
    255/59/100 432/423/329 141/115/225 438/399/518 10/457/108 35/733/210 28/329/332 23/403/274 344/112/423
    88/185/434 29/513/442 8/477/425 88/234/209 55/126/149 221/358/344 79/719/508 35/33/33 15/372/223 128/4/5
    8/431/878 555/69/587 552/470/239 39/114/87 69/432/475 39/43/111 483/557/327 83/216/140 248/659/197 537/30/411
    581/341/411 10/294/127 119/293/176 47/8/153 35/31/583 18/46/235 31/348/227 83/165/473 493/310/353 10/169/933
    27/18/1024 627/13/114 17/548/299 78/942/502 136/104/148 228/270/391 564/312/382 474/541/455 51/347/378 32/144/48
    57/930/481 39/34/85 469/467/455 80/574/272 59/185/53 149/162/128 77/423/50 449/477/466 105/204/229 28/500/314
    492/64/116 543/437/294 300/92/75 97/194/5 467/68/1 233/1/3 121/61/230 195/45/41 157/19/501 90/166/340 46/250/232
    115/628/724 63/336/260 131/381/414 31/504/258 119/221/158 96/283/241 186/31/331 72/78/45 117/2/417 433/3/179
    25/713/668 162/427/123 18/645/701 69/261/526 80/744/709 548/430/627 436/402/472 97/4/228 22/407/255 56/331/461
    87/485/516 169/192/390 30/195/45 14/441/386 20/560/483 54/149/190 92/91/6 179/153/181 125/278/402 8/405/966
    81/294/304 67/912/479 6/532/410 16/534/243 65/252/286 341/267/202 81/13/20 20/457/100 127/276/593 47/423/63
    530/173/515 146/12/295 86/529/341 64/328/1028 134/436/500 32/216/269 510/29/286 16/34/67 122/407/437 18/486/281
    10/457/108 79/315/618 72/451/320 225/2/70 18/267/119 73/493/442 454/71/3 172/14/233 120/360/504 222/1182/13
    206/361/300 232/344/261 41/178/121 49/103/33 449/267/459 101/926/964 232/1003/31 469/107/4 445/340/488 7/317/104
"""
"""Prompt, chosen and rejected response of 220 preference pairs whose prompt has at most 640 tokens."""

_SOLUTIONS = """
    41 47 49 51 52 54 55 56 57 58 59 60 61 62 62 63 64 65 65 66 67 68 68 69 70 70 71 72 72 73 73 74 75 75 76 76 77
    78 79 79 80 80 81 82 82 83 83 84 85 85 86 87 87 88 88 89 89 90 90 91 91 92 92 93 93 94 94 95 96 96 97 97 98 98
    99 100 100 101 101 102 103 103 104 104 105 105 106 107 108 108 109 109 110 111 111 112 112 113 114 114 115 116
    117 118 118 119 120 120 121 122 122 123 124 125 125 126 127 128 128 129 130 130 131 132 133 134 134 135 136 137
    138 139 140 140 141 142 143 144 145 145 146 147 148 149 150 151 152 153 154 154 155 156 157 159 160 161 162 163
    165 166 167 168 170 171 172 174 175 176 178 179 181 182 184 186 187 190 192 194 196 199 201 203 206 208 212 215
    218 221 226 230 234 239 245 250 256 263 272 283 303 351
"""
"""The 200 quantiles of GSM8K's solutions."""

_PROBLEMS = """
    52 58 61 63 64 66 67 68 69 70 71 72 73 74 75 76 77 78 79 79 80 81 82 83 84 85 86 87 89 90 91 92 93 94 96 97 98
    100 101 103 105 107 110 112 116 120 124 129 135 149
"""
"""The 50 quantiles of GSM8K's problems in the prompt of scales/paper.yaml."""

FORMAT_TOKENS = 8
"""That a chat template adds to a prompt of preference data."""

DRAWN = 4096
"""Texts drawn from the sample to fill batches with."""


@dataclass(frozen=True)
class Load:
    """What one call of a pass holds on average.

    Attributes:
        share: calls per text (pairs count as one).
        positions: computed, padding included.
        squares: sum over rows of their squared padded length, or of what no mask covers of it: what attention computes.
        masked: sum over rows of queries times keys under a mask; None where all of a row is alike.
        scored: positions that the head scores.
        passes: forward passes of one call.
        padding: padded over real positions.
    """

    share: float
    positions: float
    squares: float
    scored: float
    passes: float
    padding: float
    masked: float | None = None

    def scaled(self, factor: float) -> Load:
        """With so many times the rows in as many forward passes."""
        assert self.masked is None
        positions, squares, scored = (factor * value for value in (self.positions, self.squares, self.scored))
        return replace(self, positions=positions, squares=squares, scored=scored)


@dataclass(frozen=True)
class _Texts:
    """Tokens of N texts, and of those that the head scores; of pairs in one row also of the longer text."""

    whole: np.ndarray
    scored: np.ndarray
    longer: np.ndarray | None = None


class TextLengths:
    """The sample as a scale cuts it, and the loads that the stages' batches have with such texts."""

    def __init__(self, lengths: LengthParams) -> None:
        self.lengths = lengths

    def described(self, online_rows: int, generation_batch_size: int) -> list[tuple[str, float, str]]:
        """Name, value and meaning of what hours take from the sample.

        Args:
            online_rows: prompts of an online batch.
        """
        rows = online_rows, generation_batch_size
        few, many = (self.longest_response(count) for count in rows)
        return [
            ("text_tokens", self.sequence_share, "mean tokens of a preference text, as share of lengths.sequence"),
            (
                "sample_pairs",
                len(self._sides.whole) // 2,
                "that it is measured on; all tokens are of SmolLM2's tokenizer",
            ),
            ("format_tokens", FORMAT_TOKENS, "of them, tokens that a chat template adds to a prompt"),
            ("scored_tokens", self.scored_share, "share of them in responses, which alone the head scores"),
            ("prompt_tokens", self.prompt_share, "mean tokens of a problem's prompt, as share of lengths.prompt"),
            ("response_tokens", self.mean_response, "mean tokens of a response to a problem: GSM8K's own solutions"),
            ("longest_response", few, f"mean tokens of the longest of {rows[0]}: steps that such a batch takes"),
            ("longest_response", many, f"mean tokens of the longest of {rows[1]}"),
        ]

    @property
    def sequence_share(self) -> float:
        """Mean tokens of a pair's text, prompt included, as share of ``lengths.sequence``."""
        return float(self._sides.whole.mean() / self.lengths.sequence)

    @property
    def scored_share(self) -> float:
        """Tokens of responses among all tokens of pairs."""
        return float(self._sides.scored.sum() / self._sides.whole.sum())

    @property
    def prompt_share(self) -> float:
        """Mean tokens of a problem's prompt, as share of ``lengths.prompt``."""
        return float(self._problems.mean() / self.lengths.prompt)

    def longest_response(self, rows: int) -> float:
        """Expected tokens of the longest of ``rows`` responses to problems."""
        drawn = np.random.default_rng(0).choice(self._solutions, size=(DRAWN, rows))
        return float(drawn.max(axis=1).mean())

    @property
    def mean_response(self) -> float:
        """Tokens of a response to a problem."""
        return float(self._solutions.mean())

    def pairs(self, budget: int) -> Load:
        """Texts of pairs, alone, in batches under a token budget."""
        return _by_budget(self._sides, budget)

    def shared_rows(self, budget: int) -> Load:
        """Pairs, each in one row, likewise."""
        return _by_budget(_in_one_row(self._sides), budget)

    def whole_texts(self, budget: int) -> Load:
        """The same, prompts scored too: all tokens but a text's first."""
        return _by_budget(_Texts(self._sides.whole, self._sides.whole - 1), budget)

    def responses(self, budget: int) -> Load:
        """Problems with their responses, likewise."""
        return _by_budget(self._answered, budget)

    def prompts(self, budget: int) -> Load:
        """Problems without a response, every position scored."""
        return _by_budget(_Texts(self._problems, self._problems), budget)

    def trained_pairs(self, batch: int, part: int, one_row: bool) -> Load:
        """Pairs in the parts of an optimiser batch, in groups of similar length.

        Args:
            one_row: whether a pair is one row (models.compute.prefix_sharing), which begins with its prompt; else
                each text is one.
        """
        rows = _in_one_row(self._drawn_pairs) if one_row else self._drawn_pairs
        chosen, rejected = self._drawn_pairs.whole.reshape(2, -1)
        sorted_by = rows.whole if one_row else np.maximum(chosen, rejected)
        order = np.array(list(SortedBatches(sorted_by, batch, seed=0)))
        parts = [order[start : start + part] for start in range(0, len(order), part)]
        if not one_row:
            parts = [np.concatenate([pairs, pairs + len(chosen)]) for pairs in parts]
        calls = [[part[group] for group in length_groups(rows.whole[part].tolist())] for part in parts]
        return _load(rows, calls, 1 if one_row else 2)

    def online_rows(self, rows: int) -> Load:
        """The responses of one online batch, in the order in which they were drawn."""
        whole = self._answered.whole
        order = np.random.default_rng(0).permutation(len(whole))
        return _load(self._answered, [[order[start : start + rows]] for start in range(0, len(order), rows)], 1)

    @cached_property
    def _sides(self) -> _Texts:
        """Both texts of every pair of the sample, chosen ones first, as DPO cuts them."""
        prompts, *sides = np.array([entry.split("/") for entry in _PAIRS.split()], dtype=int).T
        prompts = np.minimum(prompts, self.lengths.sequence // 2) + FORMAT_TOKENS
        scored = np.concatenate([np.minimum(side + 1, self.lengths.sequence - prompts) for side in sides])
        scored = np.maximum(scored, 1)
        return _Texts(np.tile(prompts, 2) + scored, scored)

    @cached_property
    def _drawn_pairs(self) -> _Texts:
        count = len(self._sides.whole) // 2
        drawn = np.random.default_rng(0).choice(count, size=DRAWN)
        rows = np.concatenate([drawn, drawn + count])
        return _Texts(self._sides.whole[rows], self._sides.scored[rows])

    @cached_property
    def _answered(self) -> _Texts:
        generator = np.random.default_rng(0)
        responses = generator.choice(self._solutions, size=DRAWN)
        return _Texts(generator.choice(self._problems, size=DRAWN) + responses, responses)

    @cached_property
    def _problems(self) -> np.ndarray:
        return np.minimum(np.array(_PROBLEMS.split(), dtype=int), self.lengths.prompt)

    @cached_property
    def _solutions(self) -> np.ndarray:
        return np.minimum(np.array(_SOLUTIONS.split(), dtype=int), self.lengths.response)


def _in_one_row(sides: _Texts) -> _Texts:
    """Pairs in one row each (models.compute.prefix_sharing), of their texts, chosen ones first."""
    responses = sides.scored.reshape(2, -1).sum(axis=0)
    prompts = (sides.whole.reshape(2, -1).sum(axis=0) - responses) // 2
    return _Texts(prompts + responses, responses, sides.whole.reshape(2, -1).max(axis=0))


def _by_budget(texts: _Texts, budget: int) -> Load:
    """As many texts as fill several batches, in batches under a budget, one forward pass each."""
    rows = np.random.default_rng(0).choice(len(texts.whole), size=max(DRAWN, 8 * budget // int(texts.whole.mean())))
    drawn = _Texts(texts.whole[rows], texts.scored[rows], None if texts.longer is None else texts.longer[rows])
    return _load(drawn, [[batch] for batch in token_batches(drawn.whole.tolist(), budget)], 1)


def _load(texts: _Texts, calls: Sequence[Sequence[Iterable[int]]], rows_per_text: int) -> Load:
    """Means over calls, each a list of forward passes, each a list of rows."""
    passes = [np.asarray(list(rows)) for call in calls for rows in call]
    widths = np.array([texts.whole[rows].max() for rows in passes])
    counts = np.array([len(rows) for rows in passes])
    computed = [row for rows in passes for row in rows]
    squares, masked = widths**2, None
    if texts.longer is not None:
        longer, whole = texts.longer.tolist(), texts.whole.tolist()
        first = np.array([unmasked_queries(longer, whole, rows.tolist()) for rows in passes])
        squares, masked = first**2, float(((widths - first) * widths * counts).sum() / len(calls))
    return Load(
        share=len(calls) * rows_per_text / len(computed),
        positions=float((widths * counts).sum() / len(calls)),
        squares=float((squares * counts).sum() / len(calls)),
        scored=float(texts.scored[computed].sum() / len(calls)),
        passes=len(passes) / len(calls),
        padding=float((widths * counts).sum() / texts.whole[computed].sum()),
        masked=masked,
    )
