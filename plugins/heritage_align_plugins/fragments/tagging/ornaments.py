"""Words of Chinese pattern catalogues that a dictionary made from newspapers lacks or cuts in two."""

from __future__ import annotations

_ATTRIBUTES = """
缠枝 折枝 团窠 联珠 连珠 散点 开光 满地 织金 织银 描金 描银 贴金 鎏金 错金 错银 戗金 洒金 镂空 透雕 浮雕 圆雕
剔红 刻花 划花 印花 绞胎 釉下 釉上 五爪 四爪 三爪 对称
"""
ATTRIBUTES = tuple(_ATTRIBUTES.split())
"""Techniques and arrangements: they stand before the motif (缠枝牡丹纹, 描金云龙纹) and end no phrase."""

_NOUNS = """
青花 釉里红 斗彩 粉彩 五彩 珐琅彩 三彩 妆花 泥金 泥银 石青 石绿 朱砂 铅白 玄青 靛蓝 月白 绛红 绛紫 赭石 明黄
杏黄 鹅黄 秋香 藏青 宝蓝 孔雀蓝 孔雀绿 宝相花 忍冬 卷草 唐草 灵芝 寿桃 佛手 萱草 把莲 莲瓣 柿蒂 柿蒂纹 云龙
云凤 团龙 团凤 团鹤 行龙 升龙 降龙 正龙 蟠龙 夔龙 夔凤 螭龙 蟠螭 饕餮 麒麟 狻猊 辟邪 朱雀 玄武 飞天 翼马 对鸟
对兽 对凤 对鹿 瑞兽 瑞鸟 迦陵频伽 龟背 锁子 方胜 万字 卍字 回纹 雷纹 云雷纹 弦纹 席纹 绳纹 龙纹 凤纹 云纹 水波
海水 江崖 海水江崖 如意 如意云 如意头 云头 祥云 流云 八宝 八吉祥 暗八仙 杂宝 盘长 法轮 宝伞 宝瓶 法螺 火珠 宝珠
火焰 璎珞 飘带 绶带 莲座 须弥座 佛龛 藻井 华盖 背光 头光 供养人 锦地 地纹 边饰 角花 晕裥 云锦 宋锦 蜀锦 缂丝
经锦 纬锦 梅瓶 玉壶春瓶 抱月瓶
"""
NOUNS = tuple(_NOUNS.split())
"""Wares, colours and motifs; as nouns they may stand before another noun or end the phrase."""
