/* KT_CHECK(x): a programmer's mistake ends the process in every build. Never for input from outside. */
#ifndef KT_BASE_CHECK_H
#define KT_BASE_CHECK_H

_Noreturn void kt_check_failed(const char *condition, const char *file, int line);

#define KT_CHECK(condition) ((condition) ? (void)0 : kt_check_failed(#condition, __FILE__, __LINE__))

#endif
