"""Every fixed text of a report, in English and Chinese; names of models, metrics and data sets stand as they are."""

from __future__ import annotations

from typing import Literal

from harness.errors import UserError

ReportLanguage = Literal["en", "zh"]

STRINGS: dict[str, tuple[str, str]] = {
    # Headings
    "title": ("Comparison: {runs}", "模型对比：{runs}"),
    "overview": ("At a glance", "总览"),
    "how_to_read": ("How to read this", "如何阅读"),
    "appendix": ("What stood behind it", "运行背景"),
    "models": ("Models", "模型"),
    "datasets": ("Data sets", "数据集"),
    "prompts": ("Prompts", "提示词"),
    "machine": ("Machine", "机器"),
    "left_out": ("Left out", "未参与的模型"),
    "ablations": ("What the score owes to each modality", "各模态对得分的贡献"),
    "metrics": ("Metrics", "指标"),
    "latency": ("Latency and memory", "延迟与内存"),
    "full_latency": ("Latency in full", "完整的延迟测量"),
    "from_cold": ("From cold, and what it took", "冷启动与资源占用"),
    "single_stream": ("One sample after another", "逐个样本"),
    "fixed_length": ("One after another, answers of exactly {n} tokens", "逐个样本，回答固定为 {n} 个词元"),
    "fixed_length (one)": ("One after another, answers of exactly 1 token", "逐个样本，回答固定为 1 个词元"),
    "offline": ("In batches", "按批"),
    "slices": ("By {field}", "按 {field} 细分"),
    "origins": ("The best of each origin", "各来源的最佳模型"),
    "table": ("table", "表"),
    "standings": ("Over all tables", "综合各表"),
    "pairs": ("The best against each other model", "最佳模型与其他模型的成对检验"),
    "samples": ("Samples", "样例"),
    "missing": ("Not scored", "未评分"),
    # Tasks and languages
    "vqa": ("Visual question answering", "视觉问答"),
    "captioning": ("Captioning", "图像描述"),
    "retrieval": ("Retrieval", "图文检索"),
    "classification": ("Classification", "分类"),
    "en": ("English", "英文"),
    "zh": ("Chinese", "中文"),
    # Ablations
    "whole": ("whole", "完整"),
    "ablate text": ("without question", "去掉问题"),
    "ablate image": ("without image", "去掉图像"),
    "ablate audio": ("without audio", "去掉音频"),
    "ablate shuffled-text": ("another's question", "换成其他样本的问题"),
    "ablate shuffled-image": ("another's image", "换成其他样本的图像"),
    "ablate shuffled-audio": ("another's audio", "换成其他样本的音频"),
    # Origins, statuses
    "in-house": ("in-house", "自研"),
    "domestic": ("domestic", "国产"),
    "international": ("international", "国际"),
    "reference": ("reference", "参照"),
    "complete": ("complete", "完成"),
    "failed": ("failed", "失败"),
    "skipped": ("skipped", "跳过"),
    "interrupted": ("interrupted", "中断"),
    # Columns
    "model": ("model", "模型"),
    "origin": ("origin", "来源"),
    "route": ("route", "方式"),
    "interval": ("95 % interval", "95 % 区间"),
    "rank": ("rank", "名次"),
    "answered": ("answered", "已答"),
    "sample_count": ("samples", "样本"),
    "failures": ("failed", "失败"),
    "of_answered": ("of answered", "已答中"),
    "text_cut": ("text cut", "文本截断"),
    "cut_off": ("cut off", "超长截断"),
    "refused": ("refused", "拒答"),
    "empty": ("empty", "空回答"),
    "unfinished": ("unfinished", "思考未完"),
    "win_rate": ("win rate [95 %]", "胜率 [95 %]"),
    "mean_rank": ("mean rank [95 %]", "平均名次 [95 %]"),
    "tables": ("tables", "表数"),
    "timings": ("timings", "计时次数"),
    "tokens_out": ("output tokens", "输出词元"),
    "phase": ("{name} ms", "{name} 毫秒"),
    "detectable": ("detectable", "可检出差值"),
    "p50": ("p50 ms", "p50 毫秒"),
    "p90": ("p90 ms", "p90 毫秒"),
    "p95": ("p95 ms", "p95 毫秒"),
    "p99": ("p99 ms", "p99 毫秒"),
    "rate": ("samples/s", "样本/秒"),
    "token_rate": ("tokens/s", "词元/秒"),
    "first_token": ("first token ms", "首词元 毫秒"),
    "per_token": ("per token ms", "每词元 毫秒"),
    "import": ("import s", "导入 秒"),
    "load": ("load s", "加载 秒"),
    "first_answer": ("first answer ms", "首次回答 毫秒"),
    "warmups": ("warm-ups", "预热次数"),
    "steady": ("steady?", "已稳定？"),
    "allocated": ("allocated MB", "已分配 MB"),
    "reserved": ("reserved MB", "已保留 MB"),
    "process": ("process MB", "进程 MB"),
    "energy": ("J/sample", "焦耳/样本"),
    "shared": ("GPU shared?", "GPU 被共享？"),
    "batch_p50": ("batch p50 ms", "每批 p50 毫秒"),
    "ended": ("ended by", "终止原因"),
    "end_memory": ("memory", "内存不足"),
    "end_samples": ("no more samples", "样本用尽"),
    "end_time": ("time", "超时"),
    "memory": ("peak MB", "峰值 MB"),
    "batch": ("batch", "批大小"),
    "machine_column": ("machine", "机器"),
    "status": ("status", "状态"),
    "reason": ("reason", "原因"),
    "against": ("against", "对手"),
    "difference": ("difference", "差值"),
    "p holm": ("p (Holm)", "p (Holm)"),
    "p romano-wolf": ("p (Romano–Wolf)", "p (Romano–Wolf)"),
    "shown": ("shown?", "显著？"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "metric": ("metric", "指标"),
    "definition": ("definition", "定义"),
    "developer": ("developer", "开发者"),
    "checkpoint": ("checkpoint", "权重"),
    "parameters": ("parameters (M)", "参数 (百万)"),
    "license": ("licence", "许可证"),
    "split": ("split", "划分"),
    "homepage": ("home page", "主页"),
    "fetch": ("to bring it", "获取方式"),
    "dtype": ("dtype", "精度"),
    "prompt": ("prompt", "提示词"),
    "dataset": ("data set", "数据集"),
    "n": ("n", "n"),
    "fact": ("fact", "项目"),
    "value": ("value", "值"),
    "text": ("text", "文本"),
    "answer": ("answer", "回答"),
    "who": ("models", "模型"),
    "no_answer": ("(no answer: {error})", "（无回答：{error}）"),
    "empty_answer": ("(empty)", "（空）"),
    "rank_answer": ("first true match at rank {rank}", "首个正确匹配排第 {rank}"),
    "no_match": ("not ranked", "未排名"),
    "found_first": ("; found first: {ids}", "；最先检出：{ids}"),
    "references_are": ("reference", "参考答案"),
    "choices_are": ("choices", "选项"),
    # Charts
    "chart_quality": ("{task}: headline metric with 95 % intervals", "{task}：主指标与 95 % 区间"),
    "chart_latency": ("{task}: quality against latency", "{task}：质量与延迟"),
    "axis_latency": ("latency p50, ms (log scale)", "延迟 p50，毫秒（对数轴）"),
    "smaller_is_better": ("{metric} (smaller is better)", "{metric}（越小越好）"),
    "frontier": ("no model is both faster and better", "没有更快且更好的模型"),
    "chart_cost": ("{task}: quality against cost", "{task}：质量与费用"),
    "axis_cost": ("cost of 1,000 samples (log scale)", "每 1,000 个样本的费用（对数轴）"),
    "cost_frontier": ("no model is both cheaper and better", "没有更便宜且更好的模型"),
    # Money
    "costs": ("Tokens and cost", "词元与费用"),
    "all_tokens_in": ("tokens in", "输入词元"),
    "all_tokens_out": ("tokens out", "输出词元"),
    "reasoning_tokens": ("of them reasoning", "其中推理"),
    "tokens_of_thousand": ("tokens per 1,000 samples", "每 1,000 个样本的词元"),
    "cost": ("cost", "费用"),
    "cost_of_thousand": ("cost per 1,000 samples", "每 1,000 个样本的费用"),
    "over_network": ("over the network from {machine}", "经网络，自 {machine}"),
    "costs_note": (
        "Counts are the models' own, in the currency of each model's prices; what failed and told of no tokens is not "
        "in them, nor is what timing took.",
        "词元数由各模型自己给出，费用按各模型价格的货币计；失败且未报告词元的请求不在其中，测量延迟所用的也不在其中。",
    ),
    # The verdict
    "verdict": ("The verdict", "结论"),
    "comma": (", ", "，"),
    "names": (", ", "、"),
    "semicolon": ("; ", "；"),
    "sentence_gap": (" ", ""),
    "told_task": ("{task}: {text}.", "{task}：{text}。"),
    "told_where": ("in {where}, {text}", "{where}：{text}"),
    "told_best": ("{model} is best ({metric} {values})", "{model} 最佳（{metric} {values}）"),
    "told_tied": (
        "{model} has the highest score ({metric} {values}), not told apart from {others}",
        "{model} 得分最高（{metric} {values}），与 {others} 无法区分",
    ),
    "told_all_tied": (
        "no model is told apart from the best score, that of {model} ({metric} {values}): {others} are tied with it",
        "没有模型能与最高分 {model}（{metric} {values}）区分开：{others} 与之并列",
    ),
    "told_alone": ("{model} is the only model ({metric} {values})", "只有 {model} 一个模型（{metric} {values}）"),
    "told_alone_blind": (
        "{model} is the only model ({metric} {values}), and was not shown to be better than prior and chance",
        "只有 {model} 一个模型（{metric} {values}），且未显示优于 prior 与 chance",
    ),
    "told_nobody": ("no model can be called best: {reasons}", "没有模型可称最佳：{reasons}"),
    "told_nothing": ("no model has a score", "没有模型得到评分"),
    "told_untested": (
        "{model} has the best value ({metric} {values}); these models were not tested together",
        "{model} 数值最佳（{metric} {values}）；这些模型未一同检验",
    ),
    "told_gaps": (
        "The best in-house model against the best {origin} one: {parts}.",
        "自研最佳模型与{origin}最佳模型相比：{parts}。",
    ),
    "gaps_ahead": ("ahead in {n} tables ({gaps})", "{n} 个表领先（{gaps}）"),
    "gaps_ahead (one)": ("ahead in 1 table ({gaps})", "1 个表领先（{gaps}）"),
    "gaps_behind": ("behind in {n} tables ({gaps})", "{n} 个表落后（{gaps}）"),
    "gaps_behind (one)": ("behind in 1 table ({gaps})", "1 个表落后（{gaps}）"),
    "gaps_alike": ("not told apart in {n} tables ({gaps})", "{n} 个表无法区分（{gaps}）"),
    "gaps_alike (one)": ("not told apart in 1 table ({gaps})", "1 个表无法区分（{gaps}）"),
    "gap": ("{table}: {a} − {b} {gap}", "{table}：{a} − {b} {gap}"),
    "gap_detectable": (
        "{table}: {a} − {b} {gap}, detectable from {detectable} on",
        "{table}：{a} − {b} {gap}，可检出差值 {detectable}",
    ),
    "named_in": ("{name} ({tables})", "{name}（{tables}）"),
    "told_blind": (
        "Not shown to be better than prior and chance, and so without a rank: {models}.",
        "未显示优于 prior 与 chance，因而没有名次：{models}。",
    ),
    "told_costs": (
        "What the fastest of the best takes, one sample at a time: {parts}.",
        "最佳者中最快的模型逐个样本的开销：{parts}。",
    ),
    "cost_of": ("{table}: {model} {costs}", "{table}：{model} {costs}"),
    "cost_p50": ("{p50} ms (p50)", "{p50} 毫秒（p50）"),
    "cost_memory": ("{memory} MB at the peak", "峰值 {memory} MB"),
    "cost_money": ("{cost} for 1,000 samples", "每 1,000 个样本 {cost}"),
    "told_failed": ("Failed: {cells}.", "失败：{cells}。"),
    "told_failed_samples": (
        "Samples failed, and count as wrong: {cells}.",
        "有样本失败，按错误计分：{cells}。",
    ),
    "failed_samples": ("{model} ({table}) {failed} of {samples}", "{model}（{table}）{samples} 个中有 {failed} 个"),
    "told_skipped": (
        "{n} models were not asked in tables that need something they do not have.",
        "{n} 个模型因缺少所需能力，有的表未参与。",
    ),
    "told_skipped (one)": (
        "1 model was not asked in tables that need something it does not have.",
        "1 个模型因缺少所需能力，有的表未参与。",
    ),
    "told_left_out": (
        "{n} models were left out of the run; the reasons are at the end.",
        "另有 {n} 个模型未参与本次运行，原因见文末。",
    ),
    "told_left_out (one)": (
        "1 model was left out of the run; the reason is at the end.",
        "另有 1 个模型未参与本次运行，原因见文末。",
    ),
    "more_models": ("{n} other models", "另外 {n} 个模型"),
    "more_tables": ("{n} other tables", "另外 {n} 个表"),
    "more_gaps": ("{n} more below", "其余 {n} 个见下"),
    "more_cells": ("{n} more below", "其余 {n} 个见下"),
    "verdict_note": (
        "Not told apart: the paired test over all samples, corrected over all pairs of the table, shows no difference "
        "at 5 %. Brackets are 95 % intervals of the gap, not corrected for the number of pairs. Detectable is the "
        "smallest true difference that these samples would have shown (5 % level, 80 % power).",
        "“无法区分”指全样本成对检验（对本表所有模型对校正）在 5 % 水平上未显示差异。方括号为差值的 95 % "
        "区间，未按模型对数校正。可检出差值为这些样本所能显示的最小真实差异（5 % 水平，80 % 功效）。",
    ),
    "mark_best": ("★ best of its table", "★ 本表最佳"),
    "mark_alike": ("≈ not told apart from the best", "≈ 与最佳无法区分"),
    "mark_unreliable": ("† interval not to be relied on", "† 区间不可靠"),
    "mark_cut_off": ("‡ see the note on its answers", "‡ 见对其回答的说明"),
    # Sentences
    "subtitle": ("{models}, {cells} complete, {missing} not scored", "{models}，{cells}完成，{missing} 个未评分"),
    "counted_models": ("{n} models", "{n} 个模型"),
    "counted_models (one)": ("1 model", "1 个模型"),
    "counted_cells": ("{n} cells", "{n} 个单元"),
    "counted_cells (one)": ("1 cell", "1 个单元"),
    "pocket": (
        "The {n} pocket models are tiny, were trained on the pocket data, and say nothing of their families' full "
        "models.",
        "{n} 个袖珍模型规模极小，用 pocket 数据训练而成，不代表其所属系列完整模型的水平。",
    ),
    "pocket (one)": (
        "The pocket model is tiny, was trained on the pocket data, and says nothing of its family's full model.",
        "这个袖珍模型规模极小，用 pocket 数据训练而成，不代表其所属系列完整模型的水平。",
    ),
    "scored_anew": (
        "{run} was made by harness {made}, and its answers are scored here by the rules of {scored}. These may differ "
        "from what was reported then: choice_accuracy, exact_match, token_f1 and the accuracy of generated answers, as "
        "letters, numbers, negations and traces of thought are read anew; intervals, marks and ranks.",
        "{run} 由 harness {made} 生成，这里按 {scored} 的规则为其回答评分。以下内容可能与当时的报告不同："
        "choice_accuracy、exact_match、token_f1 和生成式回答的 accuracy（字母、数字、否定与思维过程的读法有变），"
        "以及区间、标记和名次。",
    ),
    "best_note": (
        "★ best of its table; ≈ not distinguishable from the best at 5 % (paired test over all samples, "
        "corrected over all pairs: Holm, above 20 models Romano–Wolf). Differences between models so marked may be "
        "chance.",
        "★ 本表最佳；≈ 与最佳在 5 % 水平上无法区分（全样本成对检验，对所有模型对作校正：Holm，超过 20 个模型用 "
        "Romano–Wolf）。"
        "如此标记的模型间差异可能出于偶然。",
    ),
    "interval_note": (
        "Brackets are 95 % intervals from a bootstrap over clusters (questions that share an image count as one). "
        "They speak of the choice of samples, not of training.",
        "方括号为 95 % 区间，来自按簇重抽样的自助法（共享图像的问题计为一簇）。区间反映样本的抽取，"
        "不反映训练的随机性。",
    ),
    "smaller_note": ("↓ behind a metric: a smaller value is better.", "指标后的 ↓ 表示数值越小越好。"),
    "failures_note": (
        "{model}: {failed} of {samples} failed: {reason}",
        "{model}：{samples} 个中有 {failed} 个失败：{reason}",
    ),
    "unranked_note": ("No rank, ★ or win rate: {reasons}.", "无名次、★ 与胜率：{reasons}。"),
    "nobody_ranked": (
        "No model of this table has a rank or ★: {reasons}.",
        "本表没有模型获得名次或 ★：{reasons}。",
    ),
    "few_answers": ("answered less than half", "回答不足一半"),
    "not_above_blind": ("not shown to be better than prior and chance", "未显示优于 prior 与 chance"),
    "undefined": ("its score is undefined", "得分无定义"),
    "failed_note": (
        "A sample that failed counts as wrong; “answered” is the share that did not fail.",
        "失败的样本按错误计分；“已答”为未失败样本的比例。",
    ),
    "reference_note": (
        "Reference rows are not models: prior always gives the most frequent answer, chance is the exact "
        "expectation of guessing.",
        "参照行不是模型：prior 总给出最常见的答案，chance 为随机猜测的精确期望。",
    ),
    "route_note": (
        "Route is how a model was asked: generate (it writes the answer), rank (it scores each choice), embed "
        "(similarity).",
        "方式即提问途径：generate（生成回答）、rank（为每个选项打分）、embed（按相似度）。",
    ),
    "latency_note": (
        "Latency was measured apart from quality, one sample at a time. A percentile that the number of "
        "measurements cannot carry is —.",
        "延迟与质量分开测量，每次一个样本。测量次数不足以支持的百分位数记为 —。",
    ),
    "full_latency_note": (
        "Each model had a fresh process after all answers were there. Brackets are 95 % order-statistic intervals, "
        "which take timings for independent. Warm-ups are not counted. Batches are prepared and run one after another; "
        "peak memory is that of the device, on a CPU of the process so far.",
        "全部回答完成后，每个模型在全新进程中测量。方括号为 95 % 次序统计量区间（假定各次计时独立）。预热不计入。"
        "各批依次准备并运行；峰值内存为设备内存，在 CPU 上为进程至此的峰值。",
    ),
    "overview_note": (
        "Headline metric of each table. Unlike metrics are not averaged.",
        "各表的主指标。不同指标不作平均。",
    ),
    "rows_left_out": (
        "{n} rows of the data set are left out, because their references name no choice or label.",
        "数据集中有 {n} 行未计入，因为它们的参考答案不对应任何选项或标签。",
    ),
    "rows_left_out (one)": (
        "1 row of the data set is left out, because its references name no choice or label.",
        "数据集中有 1 行未计入，因为它的参考答案不对应任何选项或标签。",
    ),
    "unreliable": (
        "† This interval may cover less than it says: {reasons}.",
        "† 此区间的实际覆盖率可能不足：{reasons}。",
    ),
    "machines_note": (
        "These rows come from different machines ({machines}); their latencies are not to be ranked together.",
        "这些行来自不同机器（{machines}），其延迟不可一同排名。",
    ),
    "joint_note": (
        "These rows come from several runs that asked the same samples: tests, marks and ranks are over all of them.",
        "这些行来自多次运行，所问样本相同：检验、标记与名次均针对全部行。",
    ),
    "apart_note": (
        "{runs}: a table of its own, because {other} of its {samples} ids stand for other questions, answers or media "
        "than in the first one.",
        "{runs}：单独成表，因为其 {samples} 个编号中有 {other} 个对应的问题、答案或媒体与前一表不同。",
    ),
    "by_words_note": (
        "{n} samples are paired by question and references alone: a run of an earlier version kept no digests.",
        "{n} 个样本仅按问题与参考答案配对：较早版本的运行没有内容摘要。",
    ),
    "by_words_note (one)": (
        "1 sample is paired by question and references alone: a run of an earlier version kept no digests.",
        "1 个样本仅按问题与参考答案配对：较早版本的运行没有内容摘要。",
    ),
    "by_id_note": (
        "{n} samples are paired by id alone: their media were not read in every run.",
        "{n} 个样本仅按编号配对：其媒体并非在每次运行中都被读取。",
    ),
    "by_id_note (one)": (
        "1 sample is paired by id alone: its media were not read in every run.",
        "1 个样本仅按编号配对：其媒体并非在每次运行中都被读取。",
    ),
    "joined_note": (
        "These rows come from several runs. Marks and ranks hold within one run and are not shown; `harness "
        "compare` tests two runs sample by sample.",
        "这些行来自多次运行。标记与名次只在单次运行内有效，此处不显示；`harness compare` 可逐样本检验两次运行。",
    ),
    "counts_note": (
        "These rows are over different numbers of samples ({counts}); differences may be due to the samples.",
        "这些行的样本数不同（{counts}），差异可能来自样本。",
    ),
    "text_cut_note": (
        "Text was cut: it is longer than the context of {models}, and what stands behind was not seen. The share of "
        "samples (of retrieval, of texts) is in parentheses.",
        "文本被截断：超出了 {models} 的上下文长度，其后的内容模型没有看到。括号内为受影响样本（检索为文本）的比例。",
    ),
    "cut_off_note": (
        "‡ More than 1 % of the answers were cut off by the token limit (share and limit in parentheses), and the "
        "score may suffer from it: {models}. models.NAME.max_new_tokens raises it for one model.",
        "‡ 超过 1 % 的回答因达到词元上限而被截断（括号内为比例与上限），得分可能因此偏低：{models}。"
        "models.名称.max_new_tokens 可为单个模型提高上限。",
    ),
    "amiss_note": (
        "Of the answers given: “cut off” were ended by the token limit, “refused” decline to answer, “empty” have no "
        "text, and “unfinished” (empty as well) ended within a trace of reasoning.",
        "在已给出的回答中：“超长截断”为达到词元上限而中止，“拒答”为拒绝回答，“空回答”为没有文本，"
        "“思考未完”（同时计为空回答）为止于思考过程之中。",
    ),
    "origins_note": (
        "Gaps with 95 % intervals; ≈ has not been shown to differ (paired test, corrected over all pairs). "
        "Choosing the best of several on these samples flatters an origin with many models a little.",
        "差距附 95 % 区间；≈ 表示差异未获证实（成对检验，对所有模型对校正）。在同一批样本上从多个模型中择优，"
        "对模型较多的来源略为有利。",
    ),
    "standings_note": (
        "Win rate is the share of the other models that a model beats, mean rank its place, both averaged "
        "over the tables in "
        "which all these models have a rank.",
        "胜率为该模型胜过其他模型的比例，平均名次为其名次，均在这些模型都有名次的表上取平均。",
    ),
    "ablations_note": (
        "The same samples and the same models, with one thing taken away or exchanged for another sample's. What a "
        "model loses then is what it owes to it; where nothing is lost, it did not look or listen.",
        "样本与模型相同，仅去掉某一模态，或换成其他样本的内容。由此损失的得分即来自该模态；若没有损失，说明模型并未看或听。",
    ),
    "pairs_note": (
        "Detectable is the smallest true difference that these samples would have shown (5 % level, 80 % "
        "power). Every pair is in {file}.",
        "可检出差值为这些样本所能显示的最小真实差异（5 % 水平，80 % 功效）。全部模型对见 {file}。",
    ),
    "hidden": ("Not shown at this width: {names}.", "此宽度下未显示：{names}。"),
    "samples_note": (
        "Drawn by a hash of cluster and id, those first on which the models part. ✓ equals a reference after "
        "normalising case, width and punctuation (retrieval: a true match came first); the metric itself may be "
        "finer.",
        "按簇与编号的哈希抽取，模型意见不一者优先。✓ "
        "表示规范化大小写、全半角与标点后与某一参考答案相同（检索：正确匹配排第一）；指标本身可能更细致。",
    ),
    "more_slices": ("{n} more values are in {file}.", "另有 {n} 个取值，见 {file}。"),
    "more_slices (one)": ("1 more value is in {file}.", "另有 1 个取值，见 {file}。"),
    "nothing": ("Nothing was scored in this table.", "此表没有评分结果。"),
    "no_font": (
        "No installed font has the Chinese characters that the charts need; their labels are in English and some "
        "names may show as boxes in the PNG files. Install a CJK font, such as Noto Sans CJK.",
        "未找到含所需汉字的字体；图表标签改用英文，PNG 中部分名称可能显示为方框。请安装中日韩字体，例如 Noto Sans "
        "CJK。",
    ),
}


class Strings:
    """Looks up fixed texts in one language, such as `strings("title", runs="a")`."""

    def __init__(self, language: str) -> None:
        if language not in ("en", "zh"):
            raise UserError(f"A report can be in en or zh, not '{language}'. Use --lang en or --lang zh.")
        self.language = language
        self._column = ("en", "zh").index(language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with the values put in; where `n` is 1 and there is a text of its own for one, that."""
        one = f"{key} (one)"
        return STRINGS[one if values.get("n") == 1 and one in STRINGS else key][self._column].format(**values)

    def name(self, name: str) -> str:
        """A task, language or origin in words; a name without a translation stands as it is."""
        return STRINGS[name][self._column] if name in STRINGS else name
