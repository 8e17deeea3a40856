"""The texts of all pages in Portuguese. `one|many`: {n} decides which of the two. Keys and places are those of words_en.py."""

PORTUGUESE = {
    "billions": "{count} bi",
    "millions": "{count} mi",
    "day": "{day} {month} {year}",
    "documents": "{n} documento|{n} documentos",
    "tokens": "{n} token|{n} tokens",
    "steps": "{n} passo|{n} passos",
    "epochs": "{count} época|{count} épocas",
    "running": "em andamento",
    "completed": "concluído",
    "stopped": "interrompido",
    "failed": "falhou",
    "unknown": "sem resultados",
    "model": "{name} ({count} de parâmetros)",
    "model_part": "{name} ({count} de parâmetros, dos quais {part} aprendem)",
    "from_scratch": "{model}, treinado do zero com {text}.",
    "fine_tuned": "{model}, ajustado com {text}.",
    "text": "{documents} de {name} ({size})",
    "text_streamed": "{name}, lido em fluxo",
    "effort": "{steps}, {tokens} aprendidos",
    "left_out": "{said}, mais {n} fora da função de perda",
    "on_machine": "{date}, {duration} em {machine}.",
    "cpu": "uma thread de CPU|{n} threads de CPU",
    "devices": "{name}|{n} × {name}",
    "progress": "Passo {step} de {steps}. Esta página se recarrega sozinha enquanto o treino continua.",
    "nothing_scored": "Nenhum texto foi reservado ou avaliado; por isso não se conhece a qualidade.",
    "bits_per_byte": "bits por byte do texto reservado; menos é melhor",
    "same_text": "no mesmo texto, antes e depois: {amount}",
    "one_text": "em {amount}",
    "all_tokens": "todos os {n} tokens reservados",
    "part_tokens": "{n} de {whole} tokens reservados",
    "in_documents": "{amount} em {documents}",
    "unigram_is": "um modelo de unigramas tem {bits}",
    "perplexity": "perplexidade por token",
    "was": "antes {value}",
    "speed": "tokens por segundo",
    "memory_both": "no máximo {used} de memória; previstos {predicted} por passo, além das bibliotecas",
    "memory_used": "no máximo {used} de memória",
    "learning": "Aprendizado, em bits por byte",
    "held_out": "reservado",
    "training": "treino",
    "unigram": "unigrama",
    "best": "melhor",
    "resumed": "retomado",
    "step": "passo",
    "rate": "taxa, até {rate}",
    "learning_told": (
        "Texto reservado de {name}: de {first} bits por byte no passo {start} a {last} no passo {end}; o "
        "menor valor é {best}, no passo {best_step}. {training}{unigram}"
    ),
    "training_told": "Texto de treino: de {first} a {last}. ",
    "unigram_told": "Um modelo de unigramas tem {bits}.",
    "learning_note": "O anel marca o melhor passo ({best_step}), cujos pesos são os finais: {best} bits por byte.",
    "average_kept": (
        "O treino termina com a média dos pesos de {points} passos, a partir do passo {first}: {bits} bits por byte, {without} sem "
        "ela."
    ),
    "average_left": (
        "A média dos pesos de {points} passos, a partir do passo {first}, tem {bits} bits por byte, {without} sem ela, e não foi "
        "mantida."
    ),
    "learning_note_last": "O anel marca o ponto mais baixo, o passo {best_step}: {best} bits por byte.",
    "training_note": (
        "A linha do treino é a perda por token vezes os {ratio} tokens que um byte do texto de treino tem, com dropout."
    ),
    "unigram_beyond": "Um modelo de unigramas tem {bits}, fora da figura.",
    "only_training": "Nenhum texto foi reservado: a linha é a perda no texto de treino.",
    "rates": "Grupos de camadas",
    "rates_note": (
        "Cada faixa é a taxa de aprendizado de um grupo de camadas do passo {start} ao {end}, até o seu "
        "próprio máximo, dos embeddings (embaixo) à saída (em cima); onde está vazia, o grupo está congelado."
    ),
    "rates_told": (
        "Taxas de aprendizado de {n} grupos de camadas em {steps} passos; os máximos, do grupo mais baixo ao "
        "mais alto: {peaks}."
    ),
    "group": "grupo {number}, {rate}",
    "evaluations": "Todas as avaliações",
    "epoch": "época",
    "seconds": "tempo",
    "sets": "O que mais foi acompanhado",
    "sets_note": (
        "Bits por byte no início (anel) e com os pesos finais (ponto). Um ponto à direita do anel é texto que"
        " o modelo prevê pior do que antes: o que ele esqueceu."
    ),
    "sets_note_running": (
        "Bits por byte no início (anel) e na última avaliação (ponto). Um ponto à direita do anel é texto que"
        " o modelo prevê pior do que antes: o que ele esqueceu."
    ),
    "forgetting": "O que ele pode esquecer, em bits por byte",
    "untouched": "antes",
    "budget": "limite",
    "old_text": "antigo {share}",
    "own_text": "escrito pelo modelo intacto",
    "forgetting_note": (
        "A linha é {name}; as pontilhadas são o seu valor com o modelo intacto e o limite, {budget} acima. A faixa é a parte de "
        "texto antigo em cada passo, no máximo {most}."
    ),
    "budget_kept": (
        "Os pesos finais o mudaram em {rise}, dentro do limite; {tokens} de texto antigo ({source}) foram aprendidos de novo, "
        "{share} do total."
    ),
    "budget_spent": (
        "Os pesos finais o mudaram em {rise}, além do limite, embora {tokens} de texto antigo ({source}) tenham sido aprendidos "
        "de novo, {share} do total."
    ),
    "forgetting_told": (
        "{name} de {first} bits por byte antes do primeiro passo a {last} no passo {end}; o limite é {target}. Partes "
        "de texto antigo de uma avaliação à seguinte: {shares}."
    ),
    "samples": "A mesma frase enquanto ele aprende",
    "samples_best": "passo {step}, o melhor",
    "samples_step": "passo {step}",
    "samples_average": "passo {step}, a média",
    "samples_more": "Mais um início de texto está em samples.md.|Mais {n} inícios de texto estão em samples.md.",
    "control": "\N{MIDDLE DOT} está no lugar de um byte que não é texto.",
    "by_document": "Onde ele é bom e onde é ruim",
    "worst": "Os piores documentos reservados",
    "nearest": "Os melhores documentos reservados",
    "listed": "Documentos reservados, os piores primeiro",
    "by_document_note": "Bits por byte de cada documento, antes (anel) e depois (ponto).",
    "by_document_after": "Bits por byte de cada documento.",
    "document": "Documento {number}",
    "change": "Mudança por documento",
    "change_note": (
        "{better} de {n} documentos são previstos melhor do que antes, {worse} pior. Cada barra conta "
        "documentos segundo a mudança em bits por byte."
    ),
    "change_told": (
        "Histograma da mudança de {n} documentos em bits por byte, de {low} a {high}; {better} diminuíram, "
        "{worse} aumentaram."
    ),
    "flow": "O que aconteceu com o texto",
    "flow_read": "lido",
    "flow_kept": "mantido",
    "flow_planted": "canários, plantados para serem procurados",
    "flow_train": "aprendido",
    "flow_validation": "reservado",
    "flow_test": "guardado para teste",
    "flow_left": "deixado de fora",
    "flow_bytes": "bytes",
    "flow_documents": "documentos",
    "flow_tokens": "tokens",
    "flow_closes": (
        "Cada byte lido está em uma linha; um sinal de mais é um byte acrescentado. Um documento é: {documents_are}."
    ),
    "flow_held": "Reservado por: {rule}.",
    "flow_streamed": "O texto é lido em fluxo: o que foi lido só se conhece no fim.",
    "seen": "Das sequências de 13 palavras do texto reservado, {share} também estão no texto de treino.",
    "sources": "Fontes",
    "source": "fonte",
    "source_number": "fonte {number}",
    "lengths": (
        "Metade dos {n} documentos de treino tem menos de {half} tokens, nove em cada dez têm menos de {most}; nenhum "
        "chega a {end}."
    ),
    "lengths_alike": "Nove em cada dez dos {n} documentos de treino têm menos de {most} tokens; nenhum chega a {end}.",
    "modified": "modificada",
    "checksum": "XXH3 (128 bits)",
    "sources_more": "Mais uma está em ledger.json.|Mais {n} estão em ledger.json.",
    "reproduce": "Como repetir",
    "command": "Comando",
    "versions": "Versões",
    "machine": "Máquina",
    "machine_is": "{device}, {threads}, atenção {attention}{compiled}",
    "compiled": ", compilado",
    "seed": "Semente",
    "memory": "Memória",
    "memory_predicted": "previstos {predicted} por passo",
    "settings_sum": "Soma de verificação da configuração",
    "text_sum": "Soma de verificação do texto",
    "starts": "Inícios",
    "start": "{date}, a partir do passo {steps}",
    "next": "Como continuar",
    "next_resume": "retomar de onde parou",
    "next_generate": "fazê-lo continuar um texto",
    "next_eval": "avaliá-lo de novo",
    "next_train": "aprender com mais texto",
    "measures": "Todas as medidas, e como foram feitas",
    "measure": "medida",
    "before": "antes",
    "after": "depois",
    "final": "final",
    "now": "agora",
    "texts_two": "antes e depois: {part}; final: {final}",
    "texts_same": "antes e depois: {final}",
    "texts_one": "de {final}",
    "protocol": (
        "{tokens}, {words} palavras, {bytes} bytes; janelas de {context} tokens, cada token avaliado uma vez,"
        " {dtype}, separação por {split_by}."
    ),
    "loss": "perda (nats por token)",
    "word_perplexity": "perplexidade por palavra",
    "accuracy": "acurácia",
    "separator_loss": "perda dos separadores (nats)",
    "measure_bits_per_byte": "bits por byte",
    "unigram_bits": "bits por byte de um modelo de unigramas",
    "differing": "Configurações que diferem dos padrões de lmtune e transformers ({n})",
    "all_settings": "Todas as configurações",
    "key": "chave",
    "value": "valor",
    "default": "padrão",
    "private": (
        "Este treino é privado: nenhum texto do corpus ou do modelo, e nenhum nome de arquivo, está nesta página."
    ),
    "written": "Escrito por lmtune {version}.",
    "sweep": "Varredura de {n} treino|Varredura de {n} treinos",
    "sweep_note": (
        "{completed} de {n} concluídos. Em ordem de bits por byte do mesmo texto reservado, o menor primeiro."
    ),
    "sweep_texts": "Os treinos não foram todos avaliados no mesmo texto; por isso não há ordem entre eles.",
    "perplexity_short": "perplexidade",
    "job": "treino",
    "sweep_curves": "Aprendizado, em bits por byte do texto reservado",
    "sweep_told": (
        "Bits por byte do texto reservado de {n} treinos ao longo dos passos; no fim, de {low} a {high}; o "
        "menor é {best}."
    ),
    "left_marks": "marcas de ordem de bytes",
    "left_recoding": "a mais do que em UTF-8, de outras codificações",
    "left_carriage_returns": "CR dos fins de linha CRLF",
    "left_table": "nomes, sinais e outras colunas de tabelas",
    "left_line_ends": "fins de linha depois de documentos",
    "left_blank_lines": "linhas em branco ao redor de documentos",
    "left_empty": "linhas sem texto",
    "left_unwanted": "sem os valores pedidos",
    "left_normalized": "a mais do que na forma de data.unicode",
    "left_repeated": "linhas repetidas",
    "left_joined": "linhas unidas em documentos",
    "left_short": "documentos curtos demais",
    "left_over_limit": "documentos além do limite",
    "left_in_training": "reservado, mas também no texto de treino",
    "left_held_elsewhere": "reservado em outra fonte, ou pelo treino de que o modelo vem",
    "left_learned_before": "reservado, mas aprendido no treino de onde vem o modelo",
    "left_copied": "cópias de trechos reservados",
    "left_other": "deixado de fora por outro motivo",
    # Comparison
    "compare": "{n} treino lado a lado|{n} treinos lado a lado",
    "compare_best": "O menor valor no mesmo texto reservado é de {run}, com {bits} bits por byte.",
    "compare_apart": "Os treinos foram avaliados em {n} textos ou de {n} maneiras. Os números só se comparam dentro de uma seção.",
    "compare_not_ranked": "Sem posição: {run}: {reason}.",
    "compare_text": "{documents}, {size} reservados; janelas de {context} tokens, {dtype}.",
    "compare_told": "Bits por byte de {n} treinos no mesmo texto reservado, de {low} a {high}.",
    "compare_intervals": (
        "Os pontos são bits por byte, o menor em cima; as linhas são intervalos de 95 % sobre documentos (bootstrap). Os treinos "
        "são comparados nos mesmos documentos; a diferença para o melhor, na tabela, é conhecida muito melhor que cada número."
    ),
    "compare_points": (
        "Os pontos são bits por byte, o menor em cima. Sem intervalo: poucos documentos, ou notas que não foram guardadas."
    ),
    "compare_behind": "atrás do melhor",
    "compare_seeds": "sementes",
    "compare_runs_behind": "atrás do melhor (95 % sobre treinos e documentos)",
    "compare_over_seeds": "Sobre sementes: média e desvio padrão (n−1)",
    "compare_vocabularies": "Os vocabulários diferem: o que se mede por token não se compara e fica de fora.",
    "compare_versions": "Versões diferentes: {versions}.",
    "compare_curves_told": "Bits por byte reservados de {n} treinos ao longo dos passos, no fim de {low} a {high}.",
    "compare_settings": "O que diferiu",
    "said:hash": "hash de cada documento",
    "said:given": "a própria fonte",
    "said:stretches": "trechos do texto",
    "said:, among the first ": ", entre os primeiros ",
    "said: documents": " documentos",
    "said: and ": " e ",
    "said:whole files": "arquivos inteiros",
    "said:stretches between blank lines": "trechos entre linhas em branco",
    "said:lines": "linhas",
    "said:rows": "linhas de tabela",
    "said:articles, from one ` = Title = ` to the next": "artigos, de um ` = Título = ` ao próximo",
    "said:runs of ": "sequências de ",
    "said: consecutive ": " itens consecutivos: ",
    "said:, since the source names no articles": ", já que a fonte não nomeia artigos",
}
