"""The words of the motif collection: motifs, colours, grounds and layouts in Chinese and English.

Every thing has two names a language: the *general* one that a visitor would use and the *specialist* one of
a catalogue of textiles. The two vocabularies are the two domains of the collection; they name the same
pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Domain = Literal["general", "specialist"]
Language = Literal["zh", "en"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True)
class Term:
    """One thing's names.

    Attributes:
        zh: general Chinese name.
        en: general English name, singular.
        en_plural: its plural.
        zh_specialist: the catalogue's Chinese name.
        en_specialist: the catalogue's English name, singular and plural alike.
        measure: Chinese measure word; empty for colours, grounds and layouts.
    """

    zh: str
    en: str
    en_plural: str
    zh_specialist: str
    en_specialist: str
    measure: str = ""

    def name(self, language: Language, domain: Domain = "general", *, plural: bool = False) -> str:
        """Return the name in one language and domain; `plural` matters to general English alone."""
        if language == "zh":
            return self.zh if domain == "general" else self.zh_specialist
        if domain == "specialist":
            return self.en_specialist
        return self.en_plural if plural else self.en


MOTIFS: dict[str, Term] = {
    "peony": Term("牡丹", "peony", "peonies", "富贵花", "moutan", "朵"),
    "lotus": Term("荷花", "lotus", "lotuses", "芙蕖", "padma", "朵"),
    "plum": Term("梅花", "plum blossom", "plum blossoms", "五福花", "meihua", "朵"),
    "chrysanthemum": Term("菊花", "daisy", "daisies", "寿客", "juhua", "朵"),
    "bamboo": Term("竹子", "bamboo", "bamboos", "琅玕", "langgan", "丛"),
    "pine": Term("松树", "pine tree", "pine trees", "贞木", "changqing", "棵"),
    "peach": Term("桃子", "peach", "peaches", "蟠桃", "pantao", "只"),
    "pomegranate": Term("石榴", "pomegranate", "pomegranates", "百子果", "baizi", "只"),
    "gourd": Term("葫芦", "gourd", "gourds", "福禄", "hulu", "只"),
    "crane": Term("仙鹤", "crane", "cranes", "丹顶", "xianhe", "只"),
    "dragon": Term("龙", "dragon", "dragons", "团螭", "chilong", "条"),
    "fish": Term("鱼", "fish", "fish", "锦鳞", "carp", "条"),
    "bat": Term("蝙蝠", "bat", "bats", "伏翼", "bianfu", "只"),
    "butterfly": Term("蝴蝶", "butterfly", "butterflies", "蛱蝶", "hudie", "只"),
    "cloud": Term("云", "cloud", "clouds", "祥云", "xiangyun", "朵"),
    "ruyi": Term("如意", "heart", "hearts", "灵芝头", "ruyi", "柄"),
    "wan": Term("万字", "swirl cross", "swirl crosses", "卍字", "wan fret", "个"),
    "coin": Term("铜钱", "coin", "coins", "泉纹", "cash", "枚"),
    "lozenge": Term("菱形", "diamond", "diamonds", "方胜", "fangsheng", "个"),
    "knot": Term("绳结", "knot", "knots", "盘长", "panchang", "个"),
    "fan": Term("扇子", "fan", "fans", "便面", "bianmian", "把"),
    "pearl": Term("火珠", "flame", "flames", "摩尼", "mani", "颗"),
    "moon": Term("月亮", "moon", "moons", "蟾宫", "chan", "弯"),
    "mountain": Term("山", "mountain", "mountains", "寿山", "shoushan", "座"),
}

COLOURS: dict[str, Term] = {
    "red": Term("红色", "red", "red", "朱砂", "cinnabar"),
    "gold": Term("金色", "gold", "gold", "泥金", "gilt"),
    "orange": Term("橙色", "orange", "orange", "蜜合", "amber"),
    "blue": Term("蓝色", "blue", "blue", "石青", "azurite"),
    "green": Term("绿色", "green", "green", "石绿", "malachite"),
    "white": Term("白色", "white", "white", "铅白", "pearl"),
    "purple": Term("紫色", "purple", "purple", "青莲", "violet"),
    "pink": Term("粉色", "pink", "pink", "海棠", "rose"),
    "black": Term("黑色", "black", "black", "玄青", "ink"),
}

COLOUR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (200, 36, 40),
    "gold": (226, 178, 44),
    "orange": (226, 112, 32),
    "blue": (40, 84, 190),
    "green": (44, 138, 72),
    "white": (246, 242, 232),
    "purple": (120, 58, 156),
    "pink": (240, 146, 170),
    "black": (28, 26, 32),
}

GROUNDS: dict[str, Term] = {
    "crimson": Term("大红地", "crimson ground", "", "绛地", "carmine ground"),
    "navy": Term("深蓝地", "navy ground", "", "藏青地", "indigo ground"),
    "ivory": Term("米色地", "cream ground", "", "牙白地", "ivory ground"),
    "teal": Term("青绿地", "teal ground", "", "湖绿地", "celadon ground"),
    "brown": Term("棕色地", "brown ground", "", "香色地", "incense ground"),
    "yellow": Term("黄地", "yellow ground", "", "明黄地", "imperial ground"),
    "grey": Term("灰地", "grey ground", "", "银灰地", "silver ground"),
    "mauve": Term("藕紫地", "lilac ground", "", "藕荷地", "mauve ground"),
}

GROUND_RGB: dict[str, tuple[int, int, int]] = {
    "crimson": (142, 22, 36),
    "navy": (26, 38, 84),
    "ivory": (232, 218, 188),
    "teal": (96, 164, 160),
    "brown": (110, 76, 48),
    "yellow": (240, 208, 104),
    "grey": (160, 160, 156),
    "mauve": (186, 160, 196),
}

LAYOUTS: dict[str, Term] = {
    "roundel": Term("团窠纹锦", "brocade with a roundel", "", "团窠锦", "roundel jin"),
    "lattice": Term("格子纹锦", "brocade with a lattice", "", "菱格锦", "lozenge jin"),
    "sprays": Term("散点纹缎", "satin with scattered sprays", "", "折枝缎", "zhezhi damask"),
    "waves": Term("水波纹缎", "satin with waves", "", "海水缎", "haishui damask"),
    "bands": Term("条纹锦", "brocade with stripes", "", "晕裥锦", "yunjian jin"),
    "medallion": Term("边框纹锦", "brocade with a border", "", "开光锦", "kaiguang jin"),
}
