"""What separates fragments, and what only looks as if it did."""

from __future__ import annotations

BRACKETS = "()（）[]［］【】〔〕"
"""Pairs, opening and closing. 《》 are absent: they belong to titles."""

QUOTES = ("''", '""', "“”", "‘’", "「」", "『』")
"""Pairs, taken off a fragment that they enclose."""

MARKS = "，、。；：！？…｜|;!?•\n\r\t"
"""Always separate. The comma, the full stop and the colon of English need a look at their neighbours."""

CHINESE_CONNECTIVES = ("以及", "及其", "并且", "或者", "和", "与", "及", "或")
"""Longest first."""

ENGLISH_CONNECTIVES = ("as well as", "together with", "along with", "and", "with", "or", "&")
"""Longest first. "of" and "in" are absent: they hold a noun phrase together ("head of Medusa")."""

_WORDS = """
吉祥 色调
和田 和平 和谐 和合 和睦 和尚 和玺 和硕 和阗 和弦 和珅 和煦 祥和 温和 柔和 调和 缓和 饱和 总和
共和 谐和 颐和 雍和 宣和 太和殿 中和殿 保和殿
参与 赠与 给与 授与 与众不同 与生俱来 与时俱进
埃及 普及 涉及 触及 遍及 顾及 提及 及时 及第 及笄 及格 来得及
或许 抑或
"""
CHINESE_WORDS = tuple(_WORDS.split())
"""Stepped over whole. In most a connective's character is none: 和田玉 is jade, 埃及 is Egypt. The first
two keep 祥和 and 调和 from being seen in 吉祥和, 色调和. Left out is what two other words spell more often:
人和 (仙人和鹤), 和服 (丝绸和服饰), 波及 (水波及山石), 间或 (房间或)."""

_ABBREVIATIONS = """
approx ca cf cm diam dr ed eds esp etc fig figs ft inv kg mm mr mrs ms no nos pl prof st vol vs
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
"""Lower-case words whose full stop does not end a fragment; so do single letters (c. 1500, e.g., J. Paul)."""
