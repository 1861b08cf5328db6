/* ft_model_needs: what a model of some config needs, from the config alone: no
 * weights have to be there. Counts of up to 2^53 are exact. */
#ifndef FT_MODEL_NEEDS_H
#define FT_MODEL_NEEDS_H
#include "model/ft_model.h"

FT_API_BEGIN

typedef enum ft_precision {
    FT_PRECISION_FLOAT32,
    FT_PRECISION_BFLOAT16,
    FT_PRECISION_INT8, /* as `model convert` makes them: attention, experts and head quantized, the rest bfloat16 */
    FT_PRECISION_INT4, /* likewise, the head int8 */
    FT_PRECISIONS
} ft_precision;

typedef struct ft_model_needs {
    uint64_t parameters, active_parameters; /* active: less the experts that a token does not choose */
    uint64_t weight_bytes[FT_PRECISIONS], active_bytes[FT_PRECISIONS]; /* of all weights; of those that a token reads */
    uint64_t kv_elements_per_token;                                    /* times 4 bytes in float32, 2 in float16 */
} ft_model_needs;

ft_model_needs ft_model_needs_of(const ft_model_config *c);
const char *ft_precision_name(ft_precision p); /* "float32", "bfloat16", "int8", "int4" */

FT_API_END
#endif
