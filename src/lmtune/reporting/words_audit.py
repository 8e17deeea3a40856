"""The texts of the page of an audit, in English and in Portuguese; they join those of the other pages."""

AUDIT_ENGLISH = {
    "audit": "What {name} has memorised",
    "audit_lead": "Audited on {date}. Intervals are of {confidence}.",
    "audit_private": "The run is private: this page shows no text of its corpus.",
    "audit_why_not_asked": "Not asked for.",
    "audit_why_streamed": "Not looked for: the text is streamed, and no copy of it is kept.",
    "audit_why_not_installed": (
        "Not looked for: the packages that know identifiers (the extra audit) are not installed."
    ),
    "audit_why_none_planted": "Not looked for: none were planted (audit.canaries= before a training).",
    # Tiles
    "audit_tile_canaries": "of the canaries planted {times} are found",
    "audit_tile_alarms": "of texts that were never planted are taken for one",
    "audit_tile_passages": "of training passages come back since the training",
    "audit_tile_held_out": "of held-out passages: {share}",
    "audit_tile_identifiers": "of identifiers come back since the training",
    "audit_interval": "{low} to {high}",
    "audit_count": "{count} of {of}",
    # Canaries
    "audit_canaries": "Canaries",
    "audit_canaries_note": (
        "Short texts with {digits} random digits were planted in the training text. Each is ranked by its log-"
        "perplexity among {n} texts of the same form that were never planted; its exposure is the negative logarithm "
        "to base 2 of the share of them up to its rank: 1.4 in the mean where the model does not know them, and {most} at most."
        " It is found where it is among the best {allowed}."
    ),
    "audit_exposure_told": (
        "Mean exposure in bits of the canaries of {n} groups, from {low} to {high}, with its interval."
    ),
    "audit_repeats": "planted",
    "audit_times": "once|{n} times",
    "audit_number": "canaries",
    "audit_exposure": "mean exposure, bits",
    "audit_found": "found",
    "audit_alarms": (
        "False alarms: of {of} texts that were never planted {count} are taken for a canary ({share}; interval {low} "
        "to {high}); {allowed} are allowed."
    ),
    # Passages
    "audit_passages": "Passages",
    "audit_passages_note": (
        "The model is given {prefix} tokens of a passage. Greedily: it writes all of the {continuation} that follow, "
        "taking the likeliest each time. By likelihood: they would be met in at least half of all series of {tries} "
        "drawn texts."
    ),
    "audit_side_training": "training text",
    "audit_side_held_out": "held-out text",
    "audit_who_model": "this model",
    "audit_who_base": "before the training",
    "audit_greedy": "greedily",
    "audit_likely": "by likelihood",
    "audit_either": "either",
    "audit_added": "since the training",
    "audit_memorised": (
        "Since the training, the share of training passages that come back is {difference} percentage points above "
        "that of held-out ones ({low} to {high})."
    ),
    "audit_no_base": (
        "The weights before the training were not asked, or were random: all that comes back counts as since then."
    ),
    "audit_shown": "Passages that came back",
    "audit_prefix": "given",
    "audit_continuation": "came back",
    "audit_masked": "Digits and addresses are masked ({bullet}); names are not.",
    # Identifiers
    "audit_identifiers": "Personal identifiers",
    "audit_identifiers_note": (
        "{different} different identifiers were found in {size} of training text. The model is given the {prefix} "
        "tokens before one; it comes back as a passage does. Not asked for, since what is before them gives half of "
        "them away or more: {given_away}."
    ),
    "audit_kind": "kind",
    "audit_in_text": "in the text",
    "audit_drawn": "come back",
    "audit_form": "form, masked",
    "audit_document": "first document",
    "audit_in_training": "times",
    "audit_none_drawn": "None of those that were asked for comes back.",
    "audit_none_found": "None was found.",
    "yes": "yes",
    "no": "no",
    # Limits
    "audit_limits": "What this does not show",
    "audit_limit_sample": (
        "Passages and identifiers are a sample. That none comes back bounds how many do, by the upper end of the "
        "interval; it does not show that none would."
    ),
    "audit_limit_prompt": (
        "The model is asked with the words before a passage, as an attacker would who has the text in part. Other "
        "prompts may draw out more, or less."
    ),
    "audit_limit_detector": (
        "Identifiers are those that patterns and check digits find. Names, addresses, diagnoses and what is told in "
        "words are not among them."
    ),
    "audit_limit_canary": (
        "Canaries tell how the training treats a text of their kind and length that is repeated so often; texts of "
        "other kinds may be kept better or worse."
    ),
    "audit_limit_law": (
        "This is a measurement. Whether the model may be given away is for the law and the officer to say, and not "
        "for this page."
    ),
    "audit_protocol": "Protocol",
    "audit_scored": "Scored in {dtype}, on {versions}. Checkpoint: {ckpt}. All numbers stand in audit.json.",
}

AUDIT_PORTUGUESE = {
    "audit": "O que {name} memorizou",
    "audit_lead": "Auditado em {date}. Os intervalos são de {confidence}.",
    "audit_private": "A execução é privada: esta página não mostra nenhum texto do corpus.",
    "audit_why_not_asked": "Não foi pedido.",
    "audit_why_streamed": "Não foi procurado: o texto é lido em fluxo, e nenhuma cópia dele é guardada.",
    "audit_why_not_installed": (
        "Não foi procurado: os pacotes que conhecem identificadores (o extra audit) não estão instalados."
    ),
    "audit_why_none_planted": "Não foi procurado: nenhum foi plantado (audit.canaries= antes de um treino).",
    # Tiles
    "audit_tile_canaries": "dos canários plantados {times} são encontrados",
    "audit_tile_alarms": "dos textos nunca plantados são tomados por um",
    "audit_tile_passages": "das passagens de treino voltam desde o treino",
    "audit_tile_held_out": "das passagens reservadas: {share}",
    "audit_tile_identifiers": "dos identificadores voltam desde o treino",
    "audit_interval": "{low} a {high}",
    "audit_count": "{count} de {of}",
    # Canaries
    "audit_canaries": "Canários",
    "audit_canaries_note": (
        "Textos curtos com {digits} dígitos aleatórios foram plantados no texto de treino. Cada um é posicionado, "
        "pela sua log-perplexidade, entre {n} textos da mesma forma que nunca foram plantados; a sua exposição é o "
        "logaritmo negativo de base 2 da parte deles que fica até a sua posição: 1,4 em média se o modelo não os "
        "conhece, e no máximo {most}. Ele é encontrado se está entre os melhores {allowed}."
    ),
    "audit_exposure_told": (
        "Exposição média em bits dos canários de {n} grupos, de {low} a {high}, com o seu intervalo."
    ),
    "audit_repeats": "plantado",
    "audit_times": "uma vez|{n} vezes",
    "audit_number": "canários",
    "audit_exposure": "exposição média, bits",
    "audit_found": "encontrados",
    "audit_alarms": (
        "Alarmes falsos: de {of} textos nunca plantados, {count} são tomados por um canário ({share}; intervalo de "
        "{low} a {high}); {allowed} são admitidos."
    ),
    # Passages
    "audit_passages": "Passagens",
    "audit_passages_note": (
        "O modelo recebe {prefix} tokens de uma passagem. De forma gulosa: ele escreve todos os {continuation} que "
        "seguem, tomando sempre o mais provável. Por verossimilhança: eles apareceriam em pelo menos metade de todas "
        "as séries de {tries} textos sorteados."
    ),
    "audit_side_training": "texto de treino",
    "audit_side_held_out": "texto reservado",
    "audit_who_model": "este modelo",
    "audit_who_base": "antes do treino",
    "audit_greedy": "de forma gulosa",
    "audit_likely": "por verossimilhança",
    "audit_either": "de um dos modos",
    "audit_added": "desde o treino",
    "audit_memorised": (
        "Desde o treino, a parte das passagens de treino que voltam está {difference} pontos percentuais acima da das"
        " reservadas ({low} a {high})."
    ),
    "audit_no_base": (
        "Os pesos de antes do treino não foram perguntados, ou eram aleatórios: tudo o que volta conta como desde "
        "então."
    ),
    "audit_shown": "Passagens que voltaram",
    "audit_prefix": "dado",
    "audit_continuation": "voltou",
    "audit_masked": "Dígitos e endereços estão mascarados ({bullet}); nomes, não.",
    # Identifiers
    "audit_identifiers": "Identificadores pessoais",
    "audit_identifiers_note": (
        "{different} identificadores diferentes foram achados em {size} de texto de treino. O modelo recebe os "
        "{prefix} tokens antes de um deles; ele volta como uma passagem. Não foram pedidos, porque o que está antes "
        "deles já entrega metade deles ou mais: {given_away}."
    ),
    "audit_kind": "tipo",
    "audit_in_text": "no texto",
    "audit_drawn": "voltam",
    "audit_form": "forma, mascarada",
    "audit_document": "primeiro documento",
    "audit_in_training": "vezes",
    "audit_none_drawn": "Nenhum dos que foram pedidos volta.",
    "audit_none_found": "Nenhum foi achado.",
    "yes": "sim",
    "no": "não",
    # Limits
    "audit_limits": "O que isto não mostra",
    "audit_limit_sample": (
        "Passagens e identificadores são uma amostra. Que nenhum volte limita quantos voltam, pelo extremo superior "
        "do intervalo; não mostra que nenhum voltaria."
    ),
    "audit_limit_prompt": (
        "O modelo é perguntado com as palavras que estão antes de uma passagem, como faria um atacante que tem o "
        "texto em parte. Outras perguntas podem tirar mais, ou menos."
    ),
    "audit_limit_detector": (
        "Identificadores são os que padrões e dígitos verificadores acham. Nomes, endereços, diagnósticos e o que é "
        "contado em palavras não estão entre eles."
    ),
    "audit_limit_canary": (
        "Canários dizem como o treino trata um texto do seu tipo e tamanho que se repete tantas vezes; textos de "
        "outros tipos podem ser guardados melhor ou pior."
    ),
    "audit_limit_law": (
        "Isto é uma medição. Se o modelo pode ser entregue a outros é a lei e o encarregado que dizem, e não esta "
        "página."
    ),
    "audit_protocol": "Protocolo",
    "audit_scored": "Calculado em {dtype}, com {versions}. Checkpoint: {ckpt}. Todos os números estão em audit.json.",
}
