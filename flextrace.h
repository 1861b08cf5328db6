/* flextrace: FlexOlmo inference with attribution, as a C library.
 *
 * This is the one header to include; it gathers the rooms' public headers, each of
 * which is its module's manual. Compile with `pkg-config --cflags --libs flextrace`.
 *
 *   ft_tokenizer_open   text to tokens and back         text/ft_tokenizer.h
 *   ft_corpus_open      documents out of files          text/ft_corpus.h
 *   ft_index_build      a corpus to a suffix array      index/ft_index_build.h
 *   ft_token_source_…   documents that are tokens       index/ft_token_source.h
 *   ft_index_open       where a token sequence stands   index/ft_index.h
 *   ft_query_…          infini-gram's questions         index/ft_query.h
 *   ft_text_match       text, whatever its tokens       index/ft_text_match.h
 *   ft_index_stat_make  what is in a corpus             index/ft_index_stat.h
 *   ft_model_open       a FlexOlmo checkpoint           model/ft_model.h
 *   ft_session_read     its forward pass, with routing  model/ft_session.h
 *   ft_generation_open  a completion, step by step      model/ft_generate.h
 *   ft_trainer_gradient losses and gradients            model/train/ft_trainer.h
 *   ft_train_run        the training loop               model/train/ft_train_run.h
 *   ft_experts_merge    owners' experts put together    model/train/ft_experts.h
 *   ft_privacy_epsilon  what private training costs     model/train/ft_privacy.h
 *   ft_eval_bits        bits per byte of a text        model/eval/ft_eval_score.h
 *   ft_extraction_run   what a model recites           model/eval/ft_extraction.h
 *   ft_trace_make       whose data spoke                tracer/ft_trace.h
 *   ft_prov_json        … as W3C PROV                   tracer/ft_prov.h
 *   ft_store_open       traces that last                tracer/ft_store.h
 *   ft_receipt_make     a signed statement of a trace   tracer/ft_receipt.h
 *   ft_receipt_replay   what it says, once more         tracer/ft_replay.h
 *   ft_receipt_log_head the log of all that were given  tracer/ft_receipt_log.h
 *   ft_audit_usage      what auditors ask of them       tracer/ft_audit.h
 *   ft_summary_make     what it was trained on          tracer/ft_summary.h
 *   ft_erase            documents out of all of it      tracer/ft_erasure.h
 *   ft_retention_read   how long it is kept             tracer/ft_retention.h
 *   ft_server_start     all of it over HTTP             api/ft_server.h */
#ifndef FLEXTRACE_H
#define FLEXTRACE_H
#include "api/ft_server.h"
#include "base/ft_npy.h"
#include "base/ft_progress.h"
#include "index/ft_index_build.h"
#include "index/ft_index_stat.h"
#include "index/ft_origins.h"
#include "index/ft_query.h"
#include "index/ft_text_match.h"
#include "index/ft_token_source.h"
#include "model/eval/ft_eval_choice.h"
#include "model/eval/ft_eval_combine.h"
#include "model/eval/ft_eval_ensemble.h"
#include "model/eval/ft_eval_generate.h"
#include "model/eval/ft_eval_report.h"
#include "model/eval/ft_eval_system.h"
#include "model/eval/ft_extraction.h"
#include "model/ft_generate.h"
#include "model/ft_scheduler.h"
#include "model/train/ft_experts.h"
#include "model/train/ft_train_run.h"
#include "text/ft_chat_template.h"
#include "text/ft_corpus.h"
#include "text/ft_tokenizer.h"
#include "tracer/ft_audit.h"
#include "tracer/ft_erasure.h"
#include "tracer/ft_federation.h"
#include "tracer/ft_keyring.h"
#include "tracer/ft_prov.h"
#include "tracer/ft_receipt_log.h"
#include "tracer/ft_replay.h"
#include "tracer/ft_retention.h"
#include "tracer/ft_store.h"
#include "tracer/ft_summary.h"
#include "tracer/ft_trace.h"
#endif
