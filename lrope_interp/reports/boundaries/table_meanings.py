"""What a row of each table of a boundaries result is."""

MEANINGS = {
    "scores": "one metric of one signal (layer, head, seed) for a label in a stratum, with its interval. "
    "Of `pk` and `windowdiff` less is better; `precision` and `recall` are at dev's prevalence",
    "nulls": "the circular-shift null of one signal for a label in a stratum: its 95 % band and p "
    "values, alone and as the maximum over layers and heads",
    "differences": "ROC-AUC of a layer minus that of a control, both on the same resamples",
    "shares": "a layer's ROC-AUC above 1/2 as a share of that of a supervised probe on the same hidden state",
    "beyond": "what a layer adds to a model of surprisal (`baseline`), in ROC-AUC and bits a gap",
    "errors": "one character of the text around one of a layer's most confident errors",
    "roc": "one point of a ROC curve",
    "precision_recall": "one point of a precision-recall curve",
    "matches": "a layer of this run, the layer of the other run that does most nearly the same, and both "
    "scores for a label in a stratum",
    "correlations": "Spearman's correlation of a layer of this run with a layer of the other run",
    "choices": "sign, alignment and threshold of a signal, as chosen on dev",
    "classes": "the mean increment of a layer over one kind of byte",
    "labels": "a label in a language: who says so, and how often",
    "strata": "a stratum: its gaps, its documents, and what was resampled",
    "stride": "how far increments move between the windows used and windows of stride 1, in a layer",
    "unscored": "gaps that lie inside a token and were not scored",
    "gaps": "one test or dev gap with its labels, strata and every signal: enough to recompute every score",
}
