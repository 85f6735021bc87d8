"""Texts that no collection of pictures is asked for: everyday sentences, for calibrating where no texts are at hand.

Every sentence is one of 20 subjects and one of 20 predicates of its language: 400 in Chinese and 400 in English. They
are about offices, software, money, roads and the weather, so that few collections hold a picture of one. Harder are
queries for things of the collection's own kind that it happens not to hold: known texts, less their pictures, are such.
"""

from __future__ import annotations

from heritage_align.types import TextItem

_SUBJECTS = {
    "zh": "股票市场 今天的会议 公司的服务器 手机信号 高速公路 天气预报 新的软件 这份合同 银行账户 足球比赛 "
    "考试成绩 地铁线路 网络密码 快递包裹 租房价格 医院挂号 电池续航 财务报表 机票预订 垃圾分类",
    "en": "the stock market,today's meeting,the company's server,the phone signal,the motorway,the weather forecast,"
    "the new software,this contract,the bank account,the football match,the exam result,the underground line,"
    "the network password,the parcel delivery,the rent,the hospital appointment,the battery,the balance sheet,"
    "the flight booking,the recycling",
}
_PREDICATES = {
    "zh": "昨天大跌 被推迟了 需要更新 又出问题了 比去年更贵 还没有确认 让大家担心 终于恢复正常 下周再讨论 影响了很多人 "
    "怎么办理 为什么这么慢 已经结束 需要重新计算 没有人负责 有三个选择 从明天开始 可以在线查询 超过了预算 请联系客服",
    "en": "fell sharply yesterday,has been postponed,needs an update,fails again,costs more than last year,"
    "is not confirmed yet,worries everybody,is back to normal,will be discussed next week,affects many people,"
    "how do I apply,why is it so slow,is over,has to be computed again,is nobody's job,has three options,"
    "starts tomorrow,can be checked online,is over budget,please call support",
}


def everyday_texts() -> list[TextItem]:
    """Return 800 texts, Chinese and English in turn, the same ones every time; none has a picture."""
    zh, en = (_sentences(language) for language in ("zh", "en"))
    pairs = [pair for both in zip(zh, en, strict=True) for pair in zip(both, ("zh", "en"), strict=True)]
    return [TextItem(f"everyday-{n}", text, language=language) for n, (text, language) in enumerate(pairs)]


def _sentences(language: str) -> list[str]:
    """Return every subject with every predicate, so that the first ones have many of both."""
    separator, join = (None, "") if language == "zh" else (",", " ")
    subjects, predicates = (part[language].split(separator) for part in (_SUBJECTS, _PREDICATES))
    return [
        join.join((subject, predicates[(place + turn) % len(predicates)]))
        for turn in range(len(predicates))
        for place, subject in enumerate(subjects)
    ]
