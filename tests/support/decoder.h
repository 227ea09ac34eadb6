/*
 * What a protocol needs in order to be fed bytes, and nothing more: a dispatcher that admits nothing, so that
 * everything that decodes is answered at once. For fuzzers.
 */
#ifndef KT_TESTS_SUPPORT_DECODER_H
#define KT_TESTS_SUPPORT_DECODER_H

#include "gateway/protocol.h"

/*
 * Feeds bytes to a new connection of the protocol in pieces whose sizes follow from the bytes, closes it, and returns
 * what it answered; the caller releases out. Ends the process if an answer was left open.
 */
void decoder_feed(const struct kt_protocol *protocol, struct kt_slice bytes, struct kt_buf *out);

#endif
