// What the page says, in English and Chinese.

const WORDS = {
  en: {
    title: "Search the collection",
    other: "中文",
    skip: "Skip to the results",
    query: "What to look for, in English or Chinese",
    example: "a white crane among blue clouds",
    choose: "Picture…",
    search: "Search",
    given: "The picture of the query",
    remove: "Remove",
    mark: "Mark a detail",
    markHint: "Drag over the picture, or press “Mark a detail”: arrow keys move the frame, with Shift they resize it, Enter searches, Escape removes it.",
    weight: "What counts more",
    asPicture: "picture",
    asText: "text",
    recipe: "Method",
    beside: "Beside it",
    none: "none",
    fits: "Show",
    fitsAll: "all answers",
    fitsLikely: "relevance from 50 %",
    fitsSure: "relevance from 95 %",
    copy: "Copy link",
    copied: "The link is copied.",
    copyYourself: "Copy the link from the address bar.",
    notInLink: "This picture is yours alone: a link cannot hold it, so who opens the link is asked for a picture.",
    ownMissing: "The query of this link had a picture that a link cannot hold. Choose it again.",
    results: "Results",
    before: "Result before",
    after: "Next result",
    close: "Close",
    every: "Show how every region answers",
    tokenTitle: "This collection asks for a token",
    tokenFirst: "Whoever runs the service can give you one. It is kept until you close this tab.",
    tokenWrong: "The service does not know this token.",
    tokenLabel: "Token",
    tokenGive: "Go on",
    cancel: "Cancel",
    drop: "Drop the picture to search with it",
    holdings: "{count} pictures",
    fromCollection: "From the collection",
    emptyCollection: "The collection holds no pictures yet.",
    searching: "Searching…",
    found: "{count} pictures by {recipe}",
    foundOne: "One picture by {recipe}",
    nothing: "Nothing in the collection fits, says {recipe}. Closest is:",
    nothingShort: "Nothing fits by {recipe}",
    readAs: "Read as",
    rankOther: "no. {rank} by {recipe}",
    relevance: "relevance {percent} %",
    relevanceMeans: "So many of the queries that fit nothing here find no better answer.",
    score: "score {score}",
    noRegions: "no regions to compare",
    yourDetail: "your detail",
    yourPicture: "your picture",
    searchSimilar: "Find pictures like this",
    searchDetail: "Find this detail",
    box: "Frame: {left} % from the left, {top} % from the top, {width} % wide, {height} % high",
    boxGone: "The frame is removed.",
    wholePictures: "{recipe} compares whole pictures; no region answers a phrase.",
    noAnswer: "No region of this picture answers.",
    stored: "A picture of the collection: {id}",
    storedPart: "A detail of {id}",
    sent: "It is sent to the service for your search and not kept.",
    notShown: "Your browser cannot show this kind of picture; the service may read it all the same.",
    noPicture: "The picture is not at hand",
    notAPicture: "That is no picture file. Save the picture first, then drop or choose the file.",
    tooLarge: "The picture is too large, and this browser cannot make it smaller.",
    askSomething: "Write what to look for, or give a picture.",
    offline: "The service cannot be reached. Are you online?",
    busy: "Many are asking at this moment.",
    waiting: "Many are asking at this moment. Trying again in {seconds} s.",
    away: "The service cannot answer at this moment.",
    refused: "The service does not take this query.",
    missing: "That is not, or no longer, in the collection.",
    needsToken: "Without a token there is nothing to see.",
    itSaid: "It said: ",
    again: "Try again",
    captionsOf: "In the catalogue",
  },
  zh: {
    title: "检索馆藏图像",
    other: "English",
    skip: "跳到结果",
    query: "要找的内容，中文或英文",
    example: "蓝地缠枝莲纹",
    choose: "图片…",
    search: "检索",
    given: "用来检索的图片",
    remove: "移除",
    mark: "框选局部",
    markHint: "在图上拖动，或按“框选局部”：方向键移动选框，加 Shift 调整大小，回车检索，Esc 移除。",
    weight: "以何为主",
    asPicture: "图片",
    asText: "文字",
    recipe: "方法",
    beside: "对照",
    none: "无",
    fits: "显示",
    fitsAll: "全部结果",
    fitsLikely: "相关度 50% 起",
    fitsSure: "相关度 95% 起",
    copy: "复制链接",
    copied: "链接已复制。",
    copyYourself: "请从地址栏复制链接。",
    notInLink: "这是您自己的图片，链接无法包含它；打开链接的人需要另选图片。",
    ownMissing: "此链接的检索用了一张链接无法包含的图片，请重新选择。",
    results: "结果",
    before: "上一个结果",
    after: "下一个结果",
    close: "关闭",
    every: "显示每个区域的应答",
    tokenTitle: "此馆藏需要令牌",
    tokenFirst: "请向服务的管理者索取。令牌只保存到关闭此标签页为止。",
    tokenWrong: "服务不认识这个令牌。",
    tokenLabel: "令牌",
    tokenGive: "继续",
    cancel: "取消",
    drop: "松开即以此图检索",
    holdings: "共 {count} 幅",
    fromCollection: "馆藏一览",
    emptyCollection: "馆藏中还没有图片。",
    searching: "检索中……",
    found: "{recipe}：{count} 幅",
    foundOne: "{recipe}：一幅",
    nothing: "{recipe} 认为馆藏中没有相符的图片。最接近的是：",
    nothingShort: "{recipe}：没有相符的",
    readAs: "理解为",
    rankOther: "{recipe} 中第 {rank}",
    relevance: "相关度 {percent}%",
    relevanceMeans: "即在馆藏中本无所指的查询里，有这么多找不到更好的答案。",
    score: "得分 {score}",
    noRegions: "没有可比较的区域",
    yourDetail: "您选的局部",
    yourPicture: "您的图片",
    searchSimilar: "找相似的图片",
    searchDetail: "找这个局部",
    box: "选框：距左 {left}%，距上 {top}%，宽 {width}%，高 {height}%",
    boxGone: "选框已移除。",
    wholePictures: "{recipe} 比较整幅图片，没有区域对应词语。",
    noAnswer: "这幅图片没有区域应答。",
    stored: "馆藏图片：{id}",
    storedPart: "{id} 的局部",
    sent: "图片只为此次检索发送给服务，不会保存。",
    notShown: "浏览器无法显示这种图片，但服务也许能读取。",
    noPicture: "图片不在手边",
    notAPicture: "这不是图片文件。请先保存图片，再拖入或选择该文件。",
    tooLarge: "图片太大，而此浏览器无法将其缩小。",
    askSomething: "请写下要找的内容，或给一张图片。",
    offline: "无法连接服务。您在线吗？",
    busy: "此刻检索的人很多。",
    waiting: "此刻检索的人很多，{seconds} 秒后重试。",
    away: "服务此刻无法回答。",
    refused: "服务不接受这个检索。",
    missing: "馆藏中没有或不再有它。",
    needsToken: "没有令牌便无法查看。",
    itSaid: "服务说：",
    again: "重试",
    captionsOf: "著录",
  },
};
const KEPT = "heritage-align-language";

let language = read() ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

function read() {
  try {
    const kept = localStorage.getItem(KEPT);
    return kept in WORDS ? kept : null;
  } catch { // storage may be forbidden
    return null;
  }
}

export const speaking = () => language;

export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  try {
    localStorage.setItem(KEPT, language);
  } catch { /* it holds for this visit */ }
}

/** The words of a key, with {names} filled in. */
export function say(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Write the words that index.html asks for. */
export function sayAll() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = say("title");
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = say(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  for (const node of document.querySelectorAll("[data-placeholder]")) node.placeholder = say(node.dataset.placeholder);
  const other = document.getElementById("language");
  other.textContent = say("other");
  other.lang = language === "zh" ? "en" : "zh-Hans";
}
