/* An intrusive doubly linked list: the link lives in the struct that is listed. No allocation, one thread. */
#ifndef KT_BASE_LIST_H
#define KT_BASE_LIST_H

#include "base/types.h"

struct kt_list {
    struct kt_list *next, *prev;
};

static inline void kt_list_init(struct kt_list *list)
{
    list->next = list->prev = list;
}

static inline bool kt_list_empty(const struct kt_list *list)
{
    return list->next == list;
}

static inline void kt_list_append(struct kt_list *list, struct kt_list *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

/* The link is a list of its own afterwards: removing twice is harmless. */
static inline void kt_list_remove(struct kt_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    kt_list_init(link);
}

/* Everything of from goes to the end of to; from is empty afterwards. */
static inline void kt_list_move(struct kt_list *to, struct kt_list *from)
{
    if (kt_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    kt_list_init(from);
}

#define kt_list_first(list, type, member) (kt_list_empty(list) ? NULL : KT_CONTAINER((list)->next, type, member))
#define kt_list_each(link, list)          for ((link) = (list)->next; (link) != (list); (link) = (link)->next)

#endif
